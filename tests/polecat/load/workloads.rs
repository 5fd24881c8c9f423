//! Each workload against a server of ours: all must come, and be counted.

use std::path::Path;

use serde_json::Value;

use super::{load, polecat_load};
use crate::support::{Home, Process, get, skip};

/// A server as a process, which stores nothing or in a file.
struct Served {
    process: Process,
    _home: Home,
}

impl Served {
    fn new(flags: &[&str]) -> Self {
        let home = Home::new();
        Self { process: Process::serve(&home.database(), flags), _home: home }
    }

    fn at(&self, scheme: &str, target: &str) -> String {
        format!("{scheme}://{}{target}", self.process.addr())
    }
}

#[test]
fn idle_holds_connections_and_answers_pings() {
    let served = Served::new(&["--heartbeat-interval", "0.3"]);
    let outcome = load(&["idle", &served.at("ws", "/ws"), "-n", "50", "--for", "1.3"]);
    outcome.expect_good();
    assert_eq!([outcome.count("connections"), outcome.count("alive")], [50; 2]);
    assert_eq!(outcome.count("handshakes"), 50);
    // Who does not answer the first is closed before the second.
    assert!(outcome.count("pings") >= 100, "{}", outcome.report);
    assert!(outcome.count("other_texts") >= 200, "heartbeats are seen: {}", outcome.report);
    let latency = &outcome.report["handshake_latency_us"];
    assert!(
        latency["max"].as_u64() >= latency["p50"].as_u64() && latency["p50"].as_u64() > Some(0),
        "{latency}"
    );
    if served.process.memory().is_none() {
        skip("the system has no /proc to see a server's memory in");
        return;
    }
    let server = &outcome.report["server"];
    assert_eq!(server["pids"], serde_json::json!([served.process.pid().as_raw_nonzero().get()]), "{server}");
    for name in
        ["cpu_ns_per_handshake", "resident_bytes_per_connection_open", "resident_bytes_per_connection"]
    {
        assert!(server[name].is_number(), "{name}: {server}");
    }
    let client = &outcome.report["client"];
    assert!(client["resident_bytes_per_connection"].is_number(), "{client}");
    // It waits nearly all the time, and by then no server could do more.
    assert!(client["cpu_share"].as_f64() < Some(0.9) && client["is_limit"] == false, "{client}");
}

#[test]
fn idle_broadcasts_to_all_on_a_channel_and_on_the_stream() {
    // Who publishes comes when it has something to say, or it would be ended for saying nothing.
    let served = Served::new(&["--handshake-timeout", "0.5"]);
    for (path, post) in [("/api/ws/caf%C3%A9", "/api/messages"), ("/ws", "/api/events")] {
        let post = served.at("http", post);
        let outcome = load(&["idle", &served.at("ws", path), "-n", "20", "--for", "1", "--broadcast", &post]);
        outcome.expect_good();
        assert_eq!(outcome.count("published"), 1);
        assert!(outcome.report["latency_us"]["max"].is_number(), "all got it: {}", outcome.report);
    }
    assert_eq!(get(served.process.addr(), "/api/channels").ok()["channels"][0], "caf\u{e9}");
}

#[test]
fn echo_gets_everything_back() {
    let served = Served::new(&[]);
    for (depth, size) in [("1", "25"), ("8", "100000")] {
        let url = served.at("ws", "/api/ws");
        let outcome = load(&["echo", &url, "-c", "4", "--depth", depth, "--size", size, "--for", "0.3"]);
        outcome.expect_good();
        assert!(outcome.count("operations") > 4, "{}", outcome.report);
        assert!(outcome.count("published") >= outcome.count("operations"));
        assert!(outcome.report["seconds"].as_f64() >= Some(0.29));
    }
}

#[test]
fn fanout_delivers_to_all_however_it_is_published() {
    let served = Served::new(&[]);
    let (room, stream) = (served.at("ws", "/api/ws/room"), served.at("ws", "/ws"));
    let (messages, events) = (served.at("http", "/api/messages"), served.at("http", "/api/events"));
    for args in [
        &["fanout", &room, "--window", "4", "--publishers", "3", "--size", "1000"][..],
        &["fanout", &room, "--window", "2", "--post", &messages],
        &["fanout", &stream, "--window", "2", "--post", &events],
        &["fanout", &room, "--rate", "200"],
    ] {
        let outcome = load(&[args, &["-c", "10", "--for", "0.3"]].concat());
        outcome.expect_good();
        let (operations, published) = (outcome.count("operations"), outcome.count("published"));
        assert!(operations >= 10 && published >= 1, "{}", outcome.report);
        // The publishers hear it, too; and what was under way when the measurement began counts.
        assert!(operations <= 13 * (published + 12), "{}", outcome.report);
        if args.contains(&"--rate") {
            // Those of the warm-up, too; what is due is sent, however late.
            assert!(published >= 40, "{}", outcome.report);
        }
    }
}

#[test]
fn publish_checks_each_answer() {
    let served = Served::new(&[]);
    let url = served.at("http", "/api/messages");
    let mut published = 0;
    for more in
        [&["--depth", "1"][..], &["--depth", "8", "--size", "5000"], &["--status-only", "--depth", "3"]]
    {
        let outcome =
            load(&[&["publish", &url, "-c", "3", "--for", "0.3", "--channel", "a \"b\""], more].concat());
        outcome.expect_good();
        published += outcome.count("published");
        assert!(outcome.report["latency_us"]["mean"].as_f64() > Some(1.0), "{}", outcome.report);
    }
    let summary = get(served.process.addr(), "/api/summary").ok();
    assert_eq!(summary["summary"]["total_messages"], published, "what was counted is what is stored");
    let refused = load(&["publish", &served.at("http", "/api/nothing"), "--for", "0.1"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.count("wrong") > 0, "{}", refused.report);
}

#[test]
fn a_storm_resumes_without_a_loss_from_a_file_and_from_memory() {
    let stored = Served::new(&[]);
    let home = Home::new();
    let kept = Served {
        process: Process::start(|command| {
            command.args(["--listen", "127.0.0.1:0", "--db", "off"]);
        }),
        _home: home,
    };
    for served in [&stored, &kept] {
        for (path, post) in [("/api/ws/room", "/api/messages"), ("/ws", "/api/events")] {
            let post = served.at("http", post);
            let url = served.at("ws", path);
            let outcome = load(&[
                "storm", &url, "-c", "20", "--rate", "200", "--rounds", "2", "--for", "0.9", "--post", &post,
            ]);
            outcome.expect_good();
            // Three times each, but for who was still on its way when all left again.
            assert!(outcome.count("handshakes") > 20, "they come again: {}", outcome.report);
            assert_eq!(outcome.count("alive"), 21);
            assert!(outcome.count("published") >= 100, "{}", outcome.report);
        }
    }
}

#[test]
fn who_breaks_the_rules_is_ended_and_the_others_stay() {
    let served = Served::new(&["--heartbeat-interval", "0.5", "--handshake-timeout", "0.5"]);
    let outcome = load(&[
        "fanout",
        &served.at("ws", "/api/ws/room"),
        "-c",
        "20",
        "--rate",
        "50",
        "--for",
        "3",
        "--slow",
        "20",
        "--half-open",
        "10",
        "--dribble",
        "10",
    ]);
    outcome.expect_good();
    assert_eq!(outcome.count("alive"), 21, "{}", outcome.report);
    let ended = outcome.report["ended_rightly"].as_object().expect("reasons");
    assert_eq!(ended.get("handshake answered 408"), Some(&Value::from(2)), "{ended:?}");
    assert_eq!(ended.values().filter_map(Value::as_u64).sum::<u64>(), 4, "{ended:?}");
}

#[test]
fn a_table_is_for_people() {
    let served = Served::new(&[]);
    let ended = polecat_load(&["echo", &served.at("ws", "/api/ws"), "-c", "2", "--for", "0.1"]);
    assert_eq!(
        (ended.status.code(), ended.stderr.len()),
        (Some(0), 0),
        "no bar without a terminal: {ended:?}"
    );
    let of_client = if Path::new("/proc/self/schedstat").exists() { " % of a processor" } else { "" };
    for name in [
        "connections",
        "handshake latency",
        "operations",
        "p99.9",
        of_client,
        "lost, doubled, swapped, wrong",
    ] {
        assert!(ended.stdout.contains(name), "{name}: {}", ended.stdout);
    }
}

#[test]
fn the_table_of_a_workload_has_what_that_workload_tells() {
    let served = Served::new(&["--heartbeat-interval", "0.3"]);
    let table = |args: &[&str]| polecat_load(&[args, &["--warm-up", "0"]].concat()).stdout;
    let stream = served.at("ws", "/ws");
    // Mostly before the first heartbeat, and after some.
    let brief = table(&["idle", &stream, "-n", "2", "--for", "0.01"]);
    let long = table(&["idle", &stream, "-n", "2", "--for", "1"]);
    for idle in [&brief, &long] {
        assert!(idle.contains("heartbeats seen"), "{idle}");
        for name in ["operation", "broadcast", "lost"] {
            assert!(!idle.contains(name), "nothing was published: {idle}");
        }
    }
    assert!(long.contains(" pings, ") && long.contains(" pongs, ") && long.contains(" messages\n"), "{long}");
    let post = served.at("http", "/api/events");
    let broadcast = table(&["idle", &stream, "-n", "2", "--for", "0.01", "--broadcast", &post]);
    assert!(broadcast.contains("broadcast latency") && broadcast.contains("lost, doubled"), "{broadcast}");
    let publish = table(&["publish", &served.at("http", "/api/messages"), "--for", "0.1"]);
    for name in ["handshake", "pings"] {
        assert!(!publish.contains(name), "there is no WebSocket: {publish}");
    }
}

#[test]
fn stages_are_told_where_that_is_asked_for() {
    let served = Served::new(&[]);
    let ended = polecat_load(&["idle", &served.at("ws", "/ws"), "-n", "3", "--for", "0.01", "--stages"]);
    let stages = ended.stderr.iter().map(|line| line.split(" with 3 open after ").next().unwrap_or_default());
    assert_eq!(stages.collect::<Vec<_>>(), ["warming-up", "measuring", "finishing", "done"], "{ended:?}");
}
