//! Features of only the engine in memory: bounds, delay, failure.

use polecat::store::engine::EngineError;

use super::*;
use crate::keys::keyed;

#[test]
fn memory_drops_the_oldest_of_each_kind() {
    let mut engine = MemoryEngine::starting_at(100, 40).with_bounds(3, usize::MAX);
    assert_eq!((engine.newest_message(), engine.newest_event()), (100, 40));
    let providers = ["p", "p", "q", "q", "q"];
    let records = providers.map(|provider| {
        let provider_name = Some(provider.to_owned());
        Record::Message(Message { provider: provider_name, token_count: Some(1), ..message(provider, "x") })
    });
    assert_eq!(store(&mut engine, records), [101, 102, 103, 104, 105]);
    store(&mut engine, ["u", "v"].map(|kind| Record::Event(event(kind))));
    assert_eq!(page_ids(&mut engine, channel("p"), 0, 9), (vec![], 105));
    assert_eq!(page_ids(&mut engine, channel("q"), 0, 9), (vec![103, 104, 105], 105));
    assert_eq!(page_ids(&mut engine, Stream::Events, 0, 9), (vec![41, 42], 42));
    assert_eq!(channels(&mut engine), ["q"]);
    let totals = summary(&mut engine);
    assert_eq!((totals.total_messages, totals.total_tokens, totals.by_provider.len()), (3, 3, 1));
}

#[test]
fn memory_is_bounded_by_weight_but_keeps_the_newest() {
    let weight = message("a", "x").weight();
    let mut engine = MemoryEngine::default().with_bounds(100, 2 * weight);
    publish(&mut engine, "a", &["1", "2", "3"]);
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![2, 3], 3));
    publish(&mut engine, "a", &[&"long".repeat(weight)]);
    assert_eq!(page_ids(&mut engine, channel("a"), 0, 9), (vec![4], 4));
}

#[test]
fn memory_answers_as_late_as_it_was_told_to() {
    let mut engine = MemoryEngine::default().with_delay(2);
    publish(&mut engine, "a", &["1"]);
    engine.ask(Query::Totals, TICKET);
    engine.append(Record::Message(message("a", "2")), None, None);
    let mut answers = Vec::new();
    for _ in 0..2 {
        turn(&mut engine, NOW, 9, &mut answers);
        assert!(answers.is_empty() && is_due(&engine) && engine.newest_message() == 1);
    }
    turn(&mut engine, NOW, 9, &mut answers);
    assert!(!is_due(&engine));
    let [Answer::Committed { id: 2, .. }, Answer::Totals { messages, .. }] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(*messages, 1, "the question was looked up before the commit");
}

#[test]
fn memory_refuses_while_it_is_told_to_fail() {
    let mut engine = MemoryEngine::default();
    let failure = EngineError("the disk is full".to_owned());
    engine.set_failure(Some(failure.clone()));
    let record = Record::Message(message("a", "1"));
    engine.append(record.clone(), None, Some(TICKET));
    engine.ask(ALL_CHANNELS, TICKET);
    assert_eq!(engine.health(), &Health::Sound, "as of the last attempt");
    let answers = run(&mut engine);
    let [Answer::Refused { query_id: Some(TICKET), weight, error }, Answer::Failed { query_id: TICKET, .. }] =
        answers.as_slice()
    else {
        panic!("{answers:?}");
    };
    assert_eq!((*weight, error), (record.weight(), &failure));
    assert_eq!(engine.health(), &Health::Degraded("the disk is full".to_owned()));
    engine.set_failure(None);
    assert_eq!(publish(&mut engine, "a", &["2"]), [1]);
    assert_eq!(engine.health(), &Health::Sound);
}

#[test]
fn memory_recovers_by_itself() {
    let mut engine = MemoryEngine::default();
    engine.set_failure(Some(EngineError("the disk is full".to_owned())));
    engine.append(Record::Message(message("a", "1")), None, None);
    run(&mut engine);
    assert_eq!(engine.due_in_ms(after_ms(300)), Some(700));
    run_at(&mut engine, after_ms(1_000));
    assert!(matches!(engine.health(), Health::Degraded(_)), "it is full still");
    assert_eq!(engine.due_in_ms(after_ms(1_000)), Some(1_000));
    engine.set_failure(None);
    run_at(&mut engine, after_ms(2_000));
    assert_eq!((engine.health(), engine.due_in_ms(after_ms(2_000))), (&Health::Sound, None));
}

#[test]
fn memory_has_the_name_it_was_given() {
    assert_eq!(MemoryEngine::default().terms().epoch().len(), 36);
    assert_eq!(MemoryEngine::default().with_epoch("other").terms().epoch(), "other");
}

#[test]
fn memory_counts_what_it_keeps() {
    let mut engine = MemoryEngine::starting_at(10, 20).with_bounds(3, usize::MAX);
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (11, 21));
    publish(&mut engine, "a", &["1", "2", "3", "4", "5"]);
    store(&mut engine, ["u", "v", "w", "x"].map(|kind| Record::Event(event(kind))));
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (13, 22));
    assert_eq!(count(&mut engine, channel("a"), 0, u64::MAX), 3);
    assert_eq!(count(&mut engine, Stream::Events, 0, u64::MAX), 3);
    assert_eq!(count(&mut engine, Stream::Events, 22, 23), 1);
    assert_eq!(kept_from(&mut engine, &channel("a")), [13; 2]);
    assert_eq!(kept_from(&mut engine, &Stream::Events), [22; 2]);
}

#[test]
fn memory_forgets_a_key_with_its_record() {
    let mut engine = MemoryEngine::default().with_bounds(2, usize::MAX).with_window_ms(500);
    assert_eq!(keyed(&mut engine, "a", "key", 0), (1, false));
    assert_eq!(keyed(&mut engine, "a", "key", 499), (1, true));
    assert_eq!(keyed(&mut engine, "a", "key", 500), (2, false), "the window is as long as it was told");
    publish(&mut engine, "a", &["1", "2"]);
    assert_eq!(keyed(&mut engine, "a", "key", 600), (5, false), "nothing to answer with");
    publish(&mut engine, "a", &["3"]);
    assert_eq!(keyed(&mut engine, "a", "key", 700), (5, true), "the later of two is remembered");
}
