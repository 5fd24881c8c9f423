//! Counts, lists from an id on, and retention bounds.

use super::*;

contract!(
    a_count_is_of_one_stream_and_a_range,
    a_count_fits_the_page_that_it_announces,
    messages_after_an_id_are_the_first_ones,
    messages_before_an_id_are_the_newest_ones,
    messages_between_two_ids_are_the_first_ones,
    lists_of_one_channel_skip_the_others,
    a_list_says_whether_there_are_others,
    events_of_one_type_are_found_among_many,
    what_is_kept_begins_with_the_first,
    a_new_store_is_sound,
);

fn a_count_is_of_one_stream_and_a_range(engine: &mut dyn Engine) {
    assert_eq!(count(engine, channel("a"), 0, 9), 0);
    assert_eq!(count(engine, Stream::Events, 0, 9), 0);
    for name in ["a", "b", "a", "b", "a"] {
        publish(engine, name, &["x"]);
    }
    store(engine, ["u", "v", "w"].map(|kind| Record::Event(event(kind))));
    for (after, through, of_a, of_events) in [
        (0, u64::MAX, 3, 3),
        (0, 5, 3, 3),
        (0, 3, 2, 3),
        (1, 3, 1, 2),
        (1, 2, 0, 1),
        (2, 5, 2, 1),
        (5, 5, 0, 0),
        (4, 2, 0, 0),
        (u64::MAX, u64::MAX, 0, 0),
        (0, 0, 0, 0),
    ] {
        assert_eq!(count(engine, channel("a"), after, through), of_a, "{after} to {through}");
        assert_eq!(count(engine, Stream::Events, after, through), of_events, "{after} to {through}");
    }
    assert_eq!(count(engine, channel("c"), 0, u64::MAX), 0);
    for (count_max, counted) in [(0, (0, true)), (2, (2, true)), (3, (3, false)), (4, (3, false))] {
        assert_eq!(count_up_to(engine, channel("a"), 0, u64::MAX, count_max), counted);
        assert_eq!(count_up_to(engine, Stream::Events, 0, u64::MAX, count_max), counted);
        assert_eq!(count_up_to(engine, channel("c"), 0, u64::MAX, count_max), (0, false));
    }
}

fn a_count_fits_the_page_that_it_announces(engine: &mut dyn Engine) {
    let names = ["a", "b", "c"];
    store(engine, (0..90).map(|n| Record::Message(message(names[n * n % 7 % 3], "x"))));
    for after in [0, 1, 17, 44, 89, 90] {
        for name in names {
            let (ids, through) = page_ids(engine, channel(name), after, 100);
            assert_eq!(count(engine, channel(name), after, through), ids.len() as u64);
        }
    }
}

/// The ids of a list.
fn ids(
    engine: &mut dyn Engine,
    channel: Option<&str>,
    after: Option<u64>,
    before: Option<u64>,
    records_max: usize,
) -> Vec<u64> {
    let of = Selection::Messages(channel.map(Rc::from));
    let (listed, span) = list(engine, &of, (after, before, records_max, usize::MAX), 2);
    let ids = listed.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(span.map(|span| (span.first, span.last)), ids.first().copied().zip(ids.last().copied()));
    ids
}

fn messages_after_an_id_are_the_first_ones(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2", "3", "4", "5"]);
    for name in [None, Some("a")] {
        assert_eq!(ids(engine, name, Some(0), None, 2), [1, 2]);
        assert_eq!(ids(engine, name, Some(2), None, 2), [3, 4]);
        assert_eq!(ids(engine, name, Some(4), None, 2), [5]);
        assert_eq!(ids(engine, name, Some(5), None, 2), [0_u64; 0]);
        assert_eq!(ids(engine, name, Some(u64::MAX), None, 2), [0_u64; 0]);
        assert_eq!(ids(engine, name, Some(3), None, 9), [4, 5]);
    }
}

fn messages_before_an_id_are_the_newest_ones(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2", "3", "4", "5"]);
    for name in [None, Some("a")] {
        assert_eq!(ids(engine, name, None, Some(5), 2), [3, 4]);
        assert_eq!(ids(engine, name, None, Some(3), 2), [1, 2]);
        assert_eq!(ids(engine, name, None, Some(2), 2), [1]);
        assert_eq!(ids(engine, name, None, Some(1), 2), [0_u64; 0]);
        assert_eq!(ids(engine, name, None, Some(0), 2), [0_u64; 0]);
        assert_eq!(ids(engine, name, None, Some(99), 2), [4, 5]);
        assert_eq!(ids(engine, name, None, Some(u64::MAX), 9), [1, 2, 3, 4, 5]);
    }
}

fn messages_between_two_ids_are_the_first_ones(engine: &mut dyn Engine) {
    publish(engine, "a", &["1", "2", "3", "4", "5"]);
    for name in [None, Some("a")] {
        assert_eq!(ids(engine, name, Some(1), Some(5), 9), [2, 3, 4]);
        assert_eq!(ids(engine, name, Some(1), Some(5), 2), [2, 3]);
        assert_eq!(ids(engine, name, Some(1), Some(2), 9), [0_u64; 0]);
        assert_eq!(ids(engine, name, Some(4), Some(2), 9), [0_u64; 0]);
        assert_eq!(ids(engine, name, Some(0), Some(0), 9), [0_u64; 0]);
    }
    let two = message("a", "2").weight() + 1;
    let (listed, _) = list(engine, &Selection::Messages(None), (Some(1), Some(5), 9, two), 9);
    assert_eq!(listed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3], "bounded by bytes as well");
}

/// Whether there are records older and newer than those of a list.
fn beyond(engine: &mut dyn Engine, of: &Selection, after: Option<u64>, before: Option<u64>) -> (bool, bool) {
    let (_, span) = list(engine, of, (after, before, 2, usize::MAX), 9);
    span.map_or((false, false), |span| (span.has_older, span.has_newer))
}

fn a_list_says_whether_there_are_others(engine: &mut dyn Engine) {
    for name in ["a", "b", "a", "a", "b", "a"] {
        publish(engine, name, &["x"]);
        store(engine, [Record::Event(event("u"))]);
    }
    let a = Selection::Messages(Some(Rc::from("a")));
    assert_eq!(beyond(engine, &a, None, None), (true, false), "4 and 6");
    assert_eq!(beyond(engine, &a, None, Some(6)), (true, true), "3 and 4");
    assert_eq!(beyond(engine, &a, None, Some(4)), (false, true), "1 and 3");
    assert_eq!(beyond(engine, &a, Some(0), None), (false, true), "1 and 3");
    assert_eq!(beyond(engine, &a, Some(1), None), (true, true), "3 and 4");
    assert_eq!(beyond(engine, &a, Some(1), Some(5)), (true, false), "3 and 4, and no other below 5");
    assert_eq!(beyond(engine, &a, Some(3), None), (true, false), "4 and 6");
    assert_eq!(beyond(engine, &a, Some(6), None), (false, false), "none");
    for all in [Selection::Messages(None), Selection::Events(None)] {
        assert_eq!(beyond(engine, &all, None, None), (true, false), "5 and 6");
        assert_eq!(beyond(engine, &all, Some(0), None), (false, true), "1 and 2");
        assert_eq!(beyond(engine, &all, Some(2), None), (true, true), "3 and 4");
        assert_eq!(beyond(engine, &all, None, Some(3)), (false, true), "1 and 2");
    }
}

fn events_of_one_type_are_found_among_many(engine: &mut dyn Engine) {
    // More than one step of a query looks at.
    for number in 0..9_000_u32 {
        let kind = if number % 1_500 == 7 { "rare" } else { "often" };
        engine.append(Record::Event(Event { kind: kind.to_owned(), ..event("u") }), None, None);
    }
    run(engine);
    let rare = Selection::Events(Some(Rc::from("rare")));
    let ids = |engine: &mut dyn Engine, after, before, records_max| {
        let (listed, _) = list(engine, &rare, (after, before, records_max, usize::MAX), 2);
        listed.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(engine, Some(0), None, 9), [8, 1508, 3008, 4508, 6008, 7508]);
    assert_eq!(ids(engine, Some(8), None, 2), [1508, 3008]);
    assert_eq!(ids(engine, None, None, 2), [6008, 7508]);
    assert_eq!(ids(engine, None, Some(8), 2), [0_u64; 0]);
    assert_eq!(ids(engine, None, Some(9), 2), [8]);
    assert_eq!(ids(engine, Some(1508), Some(6008), 9), [3008, 4508]);
    let none = Selection::Events(Some(Rc::from("never")));
    assert_eq!(list(engine, &none, (None, None, 9, usize::MAX), 9), (Vec::new(), None));
}

fn lists_of_one_channel_skip_the_others(engine: &mut dyn Engine) {
    for name in ["a", "b", "a", "b", "a", "b"] {
        publish(engine, name, &["x"]);
    }
    assert_eq!(ids(engine, Some("a"), Some(1), None, 1), [3]);
    assert_eq!(ids(engine, Some("a"), None, Some(5), 1), [3]);
    assert_eq!(ids(engine, Some("b"), Some(1), Some(6), 9), [2, 4]);
    assert_eq!(ids(engine, Some("c"), Some(1), Some(6), 9), [0_u64; 0]);
    assert_eq!(ids(engine, None, Some(1), Some(4), 9), [2, 3]);
}

fn what_is_kept_begins_with_the_first(engine: &mut dyn Engine) {
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (1, 1), "one above the newest");
    publish(engine, "a", &["1", "2"]);
    store(engine, [Record::Event(event("u"))]);
    assert_eq!((engine.oldest_message(), engine.oldest_event()), (1, 1));
}

fn a_new_store_is_sound(engine: &mut dyn Engine) {
    assert_eq!(engine.health(), &Health::Sound);
    assert_eq!(engine.terms().epoch().len(), 36, "{}", engine.terms().epoch());
    publish(engine, "a", &["1"]);
    assert_eq!(engine.health(), &Health::Sound);
}
