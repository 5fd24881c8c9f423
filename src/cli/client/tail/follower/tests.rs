#![allow(clippy::unwrap_used)]

use super::*;

fn control(kind: &str, payload: &str, at: u64) -> String {
    format!(r#"{{"type":"{kind}","payload":{payload},"event_id":"message-{at:05}"}}"#)
}

fn hello(epoch: &str, at: u64) -> String {
    let payload =
        format!(r#"{{"epoch":"{epoch}","heartbeat_interval_ms":25000,"message_bytes_max":1048576}}"#);
    control("hello", &payload, at)
}

fn message(id: u64) -> String {
    format!(
        r#"{{"type":"message","data":{{"id":{id},"author":"ann","content":"hi","timestamp":"2026-11-22T03:33:09.0+00:00","lane":null}},"event_id":"message-{id:05}"}}"#
    )
}

fn gap(requested: &str, agreed: &str) -> String {
    format!(
        r#"{{"requested":"{requested}","agreed":"{agreed}","oldest":"message-00003","newest":"message-00009"}}"#
    )
}

#[test]
fn it_goes_on_where_it_was() {
    let mut follower = Follower::new(Some("a/b"), None);
    assert_eq!(follower.target(), "/api/ws/a%2Fb");
    assert_eq!(follower.take(&hello("e-1", 7)).unwrap(), FollowerStep::Hello { heartbeat_ms: 25_000 });
    assert_eq!(follower.take(&control("live", "{}", 7)).unwrap(), FollowerStep::Live);
    assert_eq!(follower.target(), "/api/ws/a%2Fb?last_event_id=message-00007&epoch=e%2D1");
    assert_eq!(follower.take(&message(9)).unwrap(), FollowerStep::Show);
    assert_eq!(follower.take(&control("heartbeat", "{}", 12)).unwrap(), FollowerStep::Nothing);
    assert_eq!(follower.target(), "/api/ws/a%2Fb?last_event_id=message-00012&epoch=e%2D1");
    assert_eq!(
        follower.take(&control("reconnect", r#"{"after_ms":250}"#, 12)).unwrap(),
        FollowerStep::Reconnect { after_ms: 250 }
    );
    follower.take(&hello("e-1", 12)).unwrap();
    let told = follower.take(&control("resumed", r#"{"from":"message-00012","count":2}"#, 12)).unwrap();
    assert_eq!(told, FollowerStep::Tell("reconnected; 2 that came in the meantime follow".to_owned()));
}

#[test]
fn a_gap_is_told_and_nothing_is_shown_twice() {
    let mut follower = Follower::new(Some("c"), Some(2));
    follower.take(&hello("e", 2)).unwrap();
    assert_eq!(follower.take(&message(5)).unwrap(), FollowerStep::Show);
    follower.take(&hello("e", 5)).unwrap();
    let told = follower.take(&control("gap", &gap("message-00005", "message-00005"), 5)).unwrap();
    assert!(matches!(&told, FollowerStep::Tell(line) if line.contains("message-00005")), "{told:?}");
    assert_eq!(follower.take(&message(3)).unwrap(), FollowerStep::Nothing);
    assert_eq!(follower.take(&message(5)).unwrap(), FollowerStep::Nothing);
    assert_eq!(follower.take(&message(6)).unwrap(), FollowerStep::Show);
}

#[test]
fn another_database_is_begun_anew() {
    let mut follower = Follower::new(Some("c"), Some(0));
    follower.take(&hello("e", 2)).unwrap();
    let told = follower.take(&control("gap", &gap("message-00000", "message-00000"), 2)).unwrap();
    assert!(matches!(&told, FollowerStep::Tell(line) if line.contains("before message-00003")), "{told:?}");
    assert_eq!(follower.take(&message(8)).unwrap(), FollowerStep::Show);
    follower.take(&hello("other", 0)).unwrap();
    follower.take(&control("gap", &gap("message-00008", "message-00000"), 0)).unwrap();
    assert_eq!(follower.take(&message(1)).unwrap(), FollowerStep::Show);
    // A server that does not report `agreed`.
    follower.take(&hello("third", 0)).unwrap();
    let bare = r#"{"requested":"message-00001","oldest":"message-00001","newest":"message-00009"}"#;
    follower.take(&control("gap", bare, 0)).unwrap();
    assert_eq!(follower.take(&message(1)).unwrap(), FollowerStep::Show);
}

#[test]
fn a_database_that_went_back_is_followed_from_where_both_agree() {
    let mut follower = Follower::new(Some("c"), Some(9));
    follower.take(&hello("e", 9)).unwrap();
    for id in 10..=15 {
        assert_eq!(follower.take(&message(id)).unwrap(), FollowerStep::Show);
    }
    follower.take(&hello("other", 10)).unwrap();
    let told = follower.take(&control("gap", &gap("message-00015", "message-00010"), 10)).unwrap();
    assert!(matches!(&told, FollowerStep::Tell(line) if line.contains("after message-00010")), "{told:?}");
    assert_eq!(follower.take(&message(10)).unwrap(), FollowerStep::Nothing);
    assert_eq!(follower.take(&message(11)).unwrap(), FollowerStep::Show);
}

#[test]
fn another_epoch_alone_means_nothing() {
    let mut follower = Follower::new(Some("c"), Some(4));
    follower.take(&hello("e", 4)).unwrap();
    assert_eq!(follower.take(&message(5)).unwrap(), FollowerStep::Show);
    follower.take(&hello("other", 5)).unwrap();
    follower.take(&control("resumed", r#"{"from":"message-00005","count":1}"#, 5)).unwrap();
    assert_eq!(follower.target(), "/api/ws/c?last_event_id=message-00005&epoch=other");
    assert_eq!(follower.take(&message(5)).unwrap(), FollowerStep::Nothing);
    assert_eq!(follower.take(&message(6)).unwrap(), FollowerStep::Show);
}

#[test]
fn a_gap_that_a_break_has_swallowed_is_asked_for_again() {
    let mut follower = Follower::new(Some("c"), None);
    follower.take(&hello("e", 5)).unwrap();
    let target = "/api/ws/c?last_event_id=message-00005&epoch=e";
    assert_eq!(follower.target(), target, "it has not asked, so it has missed nothing");
    follower.take(&hello("other", 2)).unwrap();
    assert_eq!(follower.target(), target);
    follower.take(&hello("other", 2)).unwrap();
    follower.take(&control("gap", &gap("message-00005", "message-00002"), 2)).unwrap();
    assert_eq!(follower.target(), "/api/ws/c?last_event_id=message-00002&epoch=other");
}

#[test]
fn invalid_messages_are_errors_and_unknown_ones_are_ignored() {
    let mut follower = Follower::new(Some("c"), None);
    for invalid in [
        "",
        "[]",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"hello"}"#,
        r#"{"type":"message","data":{},"event_id":"message-99999999999999999999"}"#,
        r#"{"type":"message","data":{}}"#,
        r#"{"type":"gap","payload":{"requested":[]}}"#,
    ] {
        let failure = follower.take(invalid).unwrap_err();
        assert!(!failure.is_passing, "{invalid}");
    }
    assert_eq!(follower.take(r#"{"type":"novelty","payload":[1]}"#).unwrap(), FollowerStep::Nothing);
    let mut events = Follower::new(None, None);
    let novelty = r#"{"type":"novelty","payload":{},"correlation_id":null,"event_id":"event-00001"}"#;
    assert_eq!(events.take(novelty).unwrap(), FollowerStep::Nothing);
    for (id, cause) in ["x", ""].into_iter().enumerate() {
        let imitated = format!(
            r#"{{"type":"gap","payload":{{}},"correlation_id":"{cause}","event_id":"event-0000{}"}}"#,
            id + 2
        );
        assert_eq!(events.take(&imitated).unwrap(), FollowerStep::Show, "{cause:?}");
    }
    // Anything with data is a message, whatever its type.
    let called = r#"{"type":"hello","data":{"id":8},"event_id":"message-00008"}"#;
    assert_eq!(follower.take(called).unwrap(), FollowerStep::Show);
    let without = r#"{"type":"message","event_id":"message-00009"}"#;
    assert_eq!(follower.take(without).unwrap(), FollowerStep::Nothing);
    let degraded = r#"{"type":"health_status","payload":{"status":"degraded","reason":"full"},"event_id":"event-00001"}"#;
    assert!(matches!(events.take(degraded).unwrap(), FollowerStep::Tell(_)));
}
