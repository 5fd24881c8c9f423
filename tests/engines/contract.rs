//! Storing and reading back: each function is a clause of the contract, and a
//! test for each engine.

use super::*;

contract!(
    an_empty_store_answers_everything,
    messages_and_events_are_numbered_apart,
    answers_bear_their_tickets_in_order,
    records_come_back_as_they_were_stored,
    a_page_ends_at_its_number_of_records,
    a_page_ends_once_its_weights_reach_the_bound,
    pages_walk_a_channel_without_a_hole,
    a_sparse_channel_is_complete_to_the_newest_id,
    events_are_paged_like_messages,
    the_newest_messages_come_oldest_first,
    channels_are_sorted_by_their_bytes,
    what_is_kept_of_channels_is_told_in_pages,
    the_summary_counts_what_is_there,
    the_sum_of_tokens_saturates,
    reads_are_bounded_per_settle,
    nothing_is_done_before_settle,
);

fn an_empty_store_answers_everything(engine: &mut dyn Engine) {
    assert_eq!((engine.newest_message(), engine.newest_event()), (0, 0));
    assert!(run(engine).is_empty() && !is_due(engine));
    assert_eq!(page_ids(engine, channel("a"), 0, 10), (vec![], 0));
    assert_eq!(page_ids(engine, Stream::Events, 0, 10), (vec![], 0));
    assert_eq!(newest(engine, None, 10, 1000), []);
    assert_eq!(channels(engine), Vec::<String>::new());
    assert_eq!(details(engine, None, 10, 1000), (vec![], false));
    assert_eq!(summary(engine), Summary::default());
}

fn messages_and_events_are_numbered_apart(engine: &mut dyn Engine) {
    assert_eq!(publish(engine, "a", &["1", "2"]), [1, 2]);
    assert_eq!(store(engine, [Record::Event(event("scan_started"))]), [1]);
    assert_eq!(publish(engine, "b", &["3"]), [3]);
    assert_eq!(store(engine, [Record::Event(event("scan_completed"))]), [2]);
    assert_eq!((engine.newest_message(), engine.newest_event()), (3, 2));
}

fn answers_bear_their_tickets_in_order(engine: &mut dyn Engine) {
    engine.append(Record::Message(message("a", "1")), None, Some(QueryId(11)));
    engine.append(Record::Event(event("x")), None, None);
    engine.append(Record::Message(message("b", "2")), None, Some(QueryId(12)));
    let committed: Vec<_> = run(engine)
        .into_iter()
        .map(|answer| match answer {
            Answer::Committed { id, record, query_id, .. } => {
                (id, matches!(record, Record::Event(_)), query_id)
            }
            other => panic!("not committed: {other:?}"),
        })
        .collect();
    assert_eq!(committed, [(1, false, Some(QueryId(11))), (1, true, None), (2, false, Some(QueryId(12)))]);
}

fn records_come_back_as_they_were_stored(engine: &mut dyn Engine) {
    let mut full = message("kanal/ä b", "text\0 with \u{1F9A8} and \"quotes\"\n");
    full.lane = Some(String::new());
    full.provider = Some("p".to_owned());
    full.token_count = Some(-3);
    let records = [full, message("kanal/ä b", "")]
        .map(Record::Message)
        .into_iter()
        .chain([Record::Event(event("preview.ready"))]);
    let records = records.collect::<Vec<_>>();
    store(engine, records.clone());
    let (messages, _) = page(engine, channel("kanal/ä b"), 0, 10, usize::MAX);
    assert_eq!(messages, [(1, records[0].clone()), (2, records[1].clone())]);
    let (events, _) = page(engine, Stream::Events, 0, 10, usize::MAX);
    assert_eq!(events, [(1, records[2].clone())]);
}

fn a_page_ends_at_its_number_of_records(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2", "3", "4", "5"]);
    assert_eq!(page_ids(engine, channel("a"), 0, 2), (vec![1, 2], 2));
    assert_eq!(page_ids(engine, channel("a"), 2, 2), (vec![3, 4], 4));
    assert_eq!(page_ids(engine, channel("a"), 4, 2), (vec![5], 5));
    assert_eq!(page_ids(engine, channel("a"), 5, 2), (vec![], 5));
    assert_eq!(page_ids(engine, channel("a"), u64::MAX, 2), (vec![], 5));
}

fn a_page_ends_once_its_weights_reach_the_bound(engine: &mut dyn Engine) {
    publish(engine, "a", &["12345", "12345", "12345"]);
    let weight = message("a", "12345").weight();
    let ids = |(records, through): (Vec<(u64, Record)>, u64)| {
        (records.iter().map(|(id, _)| *id).collect::<Vec<_>>(), through)
    };
    assert_eq!(ids(page(engine, channel("a"), 0, 10, 1)), (vec![1], 1));
    assert_eq!(ids(page(engine, channel("a"), 0, 10, weight)), (vec![1], 1));
    assert_eq!(ids(page(engine, channel("a"), 0, 10, weight + 1)), (vec![1, 2], 2));
    assert_eq!(ids(page(engine, channel("a"), 0, 10, 2 * weight)), (vec![1, 2], 2));
    assert_eq!(ids(page(engine, channel("a"), 1, 10, 2 * weight)), (vec![2, 3], 3));
    assert_eq!(newest(engine, Some("a"), 10, weight).len(), 1);
    assert_eq!(newest(engine, None, 10, weight + 1).len(), 2);
}

fn pages_walk_a_channel_without_a_hole(engine: &mut dyn Engine) {
    let names = ["a", "b", "a", "c", "a", "a", "b"];
    let records = (0..140).map(|n| Record::Message(message(names[n % 7], &n.to_string())));
    store(engine, records);
    let expected: Vec<u64> =
        (1..=140).zip(names.iter().cycle()).filter(|(_, name)| **name == "a").map(|(id, _)| id).collect();
    let (mut seen, mut after) = (Vec::new(), 0);
    while after < engine.newest_message() {
        let (records, through) = page(engine, channel("a"), after, 9, 900);
        assert!(through > after, "a page brings its reader on");
        assert!(records.iter().all(|(id, _)| after < *id && *id <= through));
        seen.extend(records.iter().map(|(id, _)| *id));
        after = through;
    }
    assert_eq!(seen, expected);
}

fn a_sparse_channel_is_complete_to_the_newest_id(engine: &mut dyn Engine) {
    publish(engine, "rare", &["first"]);
    publish(engine, "busy", &["x"; 50]);
    assert_eq!(page_ids(engine, channel("rare"), 0, 10), (vec![1], 51));
    assert_eq!(page_ids(engine, channel("rare"), 1, 10), (vec![], 51));
    assert_eq!(page_ids(engine, channel("never"), 0, 10), (vec![], 51));
    publish(engine, "rare", &["second"]);
    assert_eq!(page_ids(engine, channel("rare"), 1, 10), (vec![52], 52));
    assert_eq!(page_ids(engine, channel("busy"), 45, 10), (vec![46, 47, 48, 49, 50, 51], 52));
}

fn events_are_paged_like_messages(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2", "3", "4"]);
    store(engine, ["u", "v", "w"].map(|kind| Record::Event(event(kind))));
    assert_eq!(page_ids(engine, Stream::Events, 0, 2), (vec![1, 2], 2));
    assert_eq!(page_ids(engine, Stream::Events, 2, 2), (vec![3], 3));
    assert_eq!(page_ids(engine, Stream::Events, 3, 2), (vec![], 3));
}

fn the_newest_messages_come_oldest_first(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2"]);
    publish(engine, "b", &["3"]);
    publish(engine, "a", &["4"]);
    let list = |ids: &[u64]| ids.iter().map(|id| (*id, id.to_string())).collect::<Vec<_>>();
    assert_eq!(newest(engine, None, 10, usize::MAX), list(&[1, 2, 3, 4]));
    assert_eq!(newest(engine, None, 2, usize::MAX), list(&[3, 4]));
    assert_eq!(newest(engine, Some("a"), 2, usize::MAX), list(&[2, 4]));
    assert_eq!(newest(engine, Some("a"), 2, 1), list(&[4]));
    assert_eq!(newest(engine, Some("c"), 2, usize::MAX), list(&[]));
}

fn channels_are_sorted_by_their_bytes(engine: &mut dyn Engine) {
    for name in ["b", "Z", "ä", "a", "a\u{10FFFF}", "aa", "b", "10", "9", "\u{FFFD}"] {
        publish(engine, name, &["x"]);
    }
    let names = ["10", "9", "Z", "a", "aa", "a\u{10FFFF}", "b", "ä", "\u{FFFD}"];
    assert_eq!(channels(engine), names);
}

fn the_summary_counts_what_is_there(engine: &mut dyn Engine) {
    let spoken = |provider: Option<&str>, lane: Option<&str>, token_count| {
        let (provider, lane) = (provider.map(str::to_owned), lane.map(str::to_owned));
        Record::Message(Message { provider, lane, token_count, ..message("a", "") })
    };
    store(
        engine,
        [
            spoken(Some("p"), Some("left"), Some(10)),
            spoken(Some("p"), Some(""), None),
            spoken(Some(""), None, Some(-4)),
            spoken(None, Some("right"), Some(i64::from(u32::MAX) + 2)),
            spoken(Some("q"), Some("left"), Some(-9_000_000_000)),
        ],
    );
    let counts =
        |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let expected = Summary {
        total_messages: 5,
        total_tokens: 10 - 4 + i64::from(u32::MAX) + 2 - 9_000_000_000,
        by_provider: counts(&[("p", 2), ("q", 1)]),
        by_lane: counts(&[("left", 2), ("right", 1)]),
    };
    assert_eq!(summary(engine), expected);
}

fn the_sum_of_tokens_saturates(engine: &mut dyn Engine) {
    let costing = |tokens| Record::Message(Message { token_count: Some(tokens), ..message("a", "") });
    store(engine, [costing(i64::MAX), costing(i64::MAX), costing(5)]);
    assert_eq!(summary(engine).total_tokens, i64::MAX);
    store(engine, [costing(-i64::MAX), costing(-i64::MAX)]);
    assert_eq!(summary(engine).total_tokens, 5);
    store(engine, [costing(i64::MIN), costing(i64::MIN)]);
    assert_eq!(summary(engine).total_tokens, i64::MIN);
}

fn reads_are_bounded_per_settle(engine: &mut dyn Engine) {
    publish(engine, "a", &["1"]);
    for number in 0..5 {
        let query = Query::Page { stream: channel("a"), after: 0, records_max: 9, bytes_max: 900 };
        engine.ask(query, QueryId(number));
        engine.ask(Query::Totals, QueryId(100 + number));
    }
    let (mut pages, mut lists) = (Vec::new(), Vec::new());
    while is_due(engine) {
        let mut answers = Vec::new();
        turn(engine, NOW, 3, &mut answers);
        assert!(answers.len() <= 3, "more than was allowed: {answers:?}");
        for answer in answers {
            match answer {
                Answer::Page { query_id, .. } => pages.push(query_id.0),
                Answer::Totals { query_id, .. } => lists.push(query_id.0),
                other => panic!("neither: {other:?}"),
            }
        }
    }
    assert_eq!((pages, lists), (vec![0, 1, 2, 3, 4], vec![100, 101, 102, 103, 104]));
}

fn what_is_kept_of_channels_is_told_in_pages(engine: &mut dyn Engine) {
    for (name, count) in [("b", 2), ("ä", 1), ("a", 3), ("B", 1), ("b", 1)] {
        publish(engine, name, &vec!["x"; count]);
    }
    let all = [("B", 7, 1), ("a", 6, 3), ("b", 8, 3), ("ä", 3, 1)]
        .map(|(name, id, kept)| (name.to_owned(), id, kept));
    assert_eq!(details(engine, None, 10, 1 << 20), (all.to_vec(), false));
    // Each page continues after the one before, whatever ends it.
    for (channels_max, bytes_max) in [(1, 1 << 20), (3, 1 << 20), (10, 1), (10, 100)] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let (page, is_cut) = details(engine, after.as_deref(), channels_max, bytes_max);
            assert!(page.len() <= channels_max && (!is_cut || !page.is_empty()), "{page:?}");
            seen.extend(page);
            if !is_cut {
                break;
            }
            after = seen.last().map(|(name, ..)| name.clone());
        }
        assert_eq!(seen, all, "{channels_max} {bytes_max}");
    }
    // A text that is not a name sorts before the names above it.
    assert_eq!(details(engine, Some("a\u{1}"), 1, 1 << 20).0, all[2..3]);
    assert_eq!(details(engine, Some("z"), 9, 1 << 20), (all[3..].to_vec(), false));
    // Counting continues after what was counted before.
    publish(engine, "a", &["x"; 4]);
    assert_eq!(details(engine, Some("B"), 1, 1 << 20).0, [("a".to_owned(), 12, 7)]);
}

fn nothing_is_done_before_settle(engine: &mut dyn Engine) {
    engine.append(Record::Message(message("a", "1")), None, None);
    engine.ask(ALL_CHANNELS, TICKET);
    assert!(is_due(engine));
    assert_eq!(engine.newest_message(), 0);
    let mut answers = Vec::new();
    while engine.newest_message() == 0 {
        turn(engine, NOW, 0, &mut answers);
    }
    assert!(matches!(answers.as_slice(), [Answer::Committed { id: 1, .. }]), "{answers:?}");
    assert!(is_due(engine), "the question still waits");
    let answers = run(engine);
    assert!(
        matches!(answers.as_slice(), [Answer::Names { names, .. }] if names == &[("a".to_owned(), 0)]),
        "a question sees what was appended before it: {answers:?}"
    );
}
