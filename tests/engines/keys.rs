//! Keys: a record with the same key on the same stream is stored once within the window.

use super::*;

contract!(
    a_key_stores_once_and_repeats_the_first,
    streams_have_keys_of_their_own,
    a_key_twice_in_one_turn_stores_once,
    a_key_is_free_again_after_the_window,
    a_wall_clock_that_is_set_neither_stretches_nor_cuts_the_window,
    what_has_no_key_is_stored_every_time,
);

/// Appends to a channel with a key, `ms` milliseconds after [`NOW`]; returns the id, and whether it is an
/// earlier one.
pub(crate) fn keyed(engine: &mut dyn Engine, channel: &str, key: &str, ms: u64) -> (u64, bool) {
    keyed_at(engine, Record::Message(message(channel, key)), key, after_ms(ms))
}

pub(crate) fn keyed_at(engine: &mut dyn Engine, record: Record, key: &str, now: Now) -> (u64, bool) {
    engine.append(record, Some(Rc::from(key)), None);
    match run_at(engine, now).as_slice() {
        [Answer::Committed { id, .. }] => (*id, false),
        [Answer::Repeated { id, .. }] => (*id, true),
        other => panic!("neither stored nor repeated: {other:?}"),
    }
}

fn a_key_stores_once_and_repeats_the_first(engine: &mut dyn Engine) {
    let first = Record::Message(Message { provider: Some("p".to_owned()), ..message("a", "first") });
    let second = Record::Message(message("a", "the second is longer"));
    engine.append(first.clone(), Some(Rc::from("key")), Some(QueryId(1)));
    run(engine);
    engine.append(second.clone(), Some(Rc::from("key")), Some(QueryId(2)));
    let answers = run(engine);
    let [Answer::Repeated { id: 1, record, query_id: Some(QueryId(2)), weight }] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!((record, *weight), (&first, second.weight()));
    assert_eq!((engine.newest_message(), summary(engine).total_messages), (1, 1));
    assert_eq!(keyed(engine, "a", "other key", 0), (2, false));

    let event = Record::Event(event("scan_started"));
    assert_eq!(keyed_at(engine, event.clone(), "key", NOW), (1, false));
    engine.append(event.clone(), Some(Rc::from("key")), None);
    let answers = run(engine);
    assert!(matches!(answers.as_slice(), [Answer::Repeated { id: 1, record, .. }] if *record == event));
}

fn streams_have_keys_of_their_own(engine: &mut dyn Engine) {
    assert_eq!(keyed(engine, "a", "key", 0), (1, false));
    assert_eq!(keyed(engine, "b", "key", 0), (2, false));
    assert_eq!(keyed_at(engine, Record::Event(event("x")), "key", NOW), (1, false));
    assert_eq!(keyed(engine, "b", "key", 0), (2, true));
    assert_eq!(keyed(engine, "a", "key", 0), (1, true));
    assert_eq!(keyed(engine, "a", "Key", 0), (3, false));
    assert_eq!(keyed(engine, "a", "", 0), (4, false), "any text is a key");
    assert_eq!(keyed(engine, "a", "", 0), (4, true));
}

fn a_key_twice_in_one_turn_stores_once(engine: &mut dyn Engine) {
    for (content, key) in [("1", Some("key")), ("2", None), ("3", Some("key")), ("4", None)] {
        engine.append(Record::Message(message("a", content)), key.map(Rc::from), Some(TICKET));
    }
    let answers = run(engine);
    let told: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Committed { id, record: Record::Message(message), .. } => (*id, &*message.content, false),
            Answer::Repeated { id, record: Record::Message(message), .. } => (*id, &*message.content, true),
            other => panic!("neither: {other:?}"),
        })
        .collect();
    assert_eq!(told, [(1, "1", false), (2, "2", false), (1, "1", true), (3, "4", false)]);
    assert_eq!(page_ids(engine, channel("a"), 0, 9), (vec![1, 2, 3], 3));
}

fn a_key_is_free_again_after_the_window(engine: &mut dyn Engine) {
    assert_eq!(keyed(engine, "a", "key", 0), (1, false));
    assert_eq!(keyed(engine, "a", "key", 299_999), (1, true), "and a repetition does not prolong it");
    assert_eq!(keyed(engine, "a", "key", 300_000), (2, false));
    assert_eq!(keyed(engine, "a", "key", 599_999), (2, true));
    assert_eq!(keyed(engine, "a", "key", 2_000_000), (3, false));
}

fn a_wall_clock_that_is_set_neither_stretches_nor_cuts_the_window(engine: &mut dyn Engine) {
    let mut keyed = |ms: u64, set_to: i64| {
        let now = Now { unix_micros: set_to, ..after_ms(ms) };
        keyed_at(engine, Record::Message(message("a", "x")), "key", now)
    };
    let days = |days: i64| NOW.unix_micros + days * 86_400_000_000;
    assert_eq!(keyed(0, days(0)), (1, false));
    assert_eq!(keyed(3_000, days(400)), (1, true), "ahead for a moment");
    assert_eq!(keyed(100_000, 5), (1, true), "back in 1970");
    assert_eq!(keyed(299_999, days(0)), (1, true));
    assert_eq!(keyed(300_000, days(0)), (2, false), "five minutes have passed");
    assert_eq!(keyed(400_000, 7), (2, true));
    assert_eq!(keyed(600_000, 8), (3, false), "whatever the wall clock says");
    assert_eq!(keyed(899_999, days(400)), (3, true));
}

fn what_has_no_key_is_stored_every_time(engine: &mut dyn Engine) {
    assert_eq!(publish(engine, "a", &["same", "same"]), [1, 2]);
    assert_eq!(keyed(engine, "a", "same", 0), (3, false));
    assert_eq!(publish(engine, "a", &["same"]), [4]);
}
