//! Each workload against a server of ours: everything must arrive, and be counted.

use std::path::Path;

use super::{Outcome, load, load_until, polecat_load};
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
fn idle_holds_connections() {
    let served = Served::new(&[]);
    let outcome = load(&["idle", &served.at("ws", "/ws"), "-n", "50", "--for", "1"]);
    outcome.expect_good();
    assert_eq!([outcome.count("connections"), outcome.count("alive")], [50; 2]);
    assert_eq!(outcome.count("handshakes"), 50);
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
    // It waits nearly all the time; otherwise no server could do more.
    assert!(client["cpu_share"].as_f64() < Some(0.9) && client["is_limit"] == false, "{client}");
}

#[test]
fn idle_broadcasts_to_all_on_a_channel_and_on_the_stream() {
    let served = Served::new(&[]);
    for (path, post) in [("/api/ws/caf%C3%A9", "/api/messages"), ("/ws", "/api/events")] {
        let post = served.at("http", post);
        let outcome = load(&["idle", &served.at("ws", path), "-n", "20", "--for", "0", "--broadcast", &post]);
        outcome.expect_good();
        assert_eq!(outcome.count("published"), 1);
        assert!(outcome.report["latency_us"]["max"].is_number(), "all got it: {}", outcome.report);
    }
    assert_eq!(get(served.process.addr(), "/api/channels").ok()["channels"][0], "caf\u{e9}");
}

#[test]
fn echo_gets_everything_back() {
    let served = Served::new(&[]);
    let url = served.at("ws", "/api/ws");
    for (depth, size) in [("1", "25"), ("8", "100000")] {
        let is_enough = |outcome: &Outcome| {
            outcome.expect_good();
            outcome.count("operations") > 4
        };
        let outcome = load_until(is_enough, |seconds| {
            load(&["echo", &url, "-c", "4", "--depth", depth, "--size", size, "--for", seconds])
        });
        assert!(outcome.count("published") >= outcome.count("operations"), "{}", outcome.report);
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
        let is_enough = |outcome: &Outcome| {
            outcome.expect_good();
            outcome.count("operations") >= 10
        };
        let outcome =
            load_until(is_enough, |seconds| load(&[args, &["-c", "10", "--for", seconds]].concat()));
        // The publishers receive it too.
        assert!(outcome.count("operations") <= 13 * outcome.count("published"), "{}", outcome.report);
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
        load_until(
            |outcome| outcome.report["latency_us"]["mean"].is_number(),
            |seconds| {
                let args = ["publish", &url, "-c", "3", "--for", seconds, "--channel", "a \"b\""];
                let outcome = load(&[&args, more].concat());
                outcome.expect_good();
                published += outcome.count("published");
                outcome
            },
        );
    }
    let summary = get(served.process.addr(), "/api/summary").ok();
    assert_eq!(summary["summary"]["total_messages"], published, "what was counted is what is stored");
    let nothing = served.at("http", "/api/nothing");
    let is_refused = |outcome: &Outcome| outcome.count("wrong") > 0;
    let refused = load_until(is_refused, |seconds| load(&["publish", &nothing, "--for", seconds]));
    assert_eq!(refused.status, Some(1));
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
            let (url, post) = (served.at("ws", path), served.at("http", post));
            let args = ["storm", &url, "-c", "20", "--rate", "200", "--rounds", "2", "--post", &post];
            let is_enough = |outcome: &Outcome| {
                outcome.expect_good();
                assert_eq!(outcome.count("alive"), 21, "{}", outcome.report);
                // Every subscriber that has received a message by then leaves and returns.
                outcome.count("handshakes") > 20
            };
            load_until(is_enough, |seconds| load(&[&args[..], &["--for", seconds]].concat()));
        }
    }
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
        "lost, duplicated, reordered, wrong",
    ] {
        assert!(ended.stdout.contains(name), "{name}: {}", ended.stdout);
    }
}

#[test]
fn the_table_of_a_workload_has_what_that_workload_tells() {
    let served = Served::new(&["--heartbeat-interval", "0.5"]);
    let table = |args: &[&str]| polecat_load(&[args, &["--warm-up", "0"]].concat()).stdout;
    let stream = served.at("ws", "/ws");
    // From before the first heartbeat to after some.
    let long = ["0.01", "1", "10"].into_iter().find_map(|seconds| {
        let idle = table(&["idle", &stream, "-n", "2", "--for", seconds]);
        assert!(idle.contains("heartbeats seen"), "{idle}");
        for name in ["operation", "broadcast", "lost"] {
            assert!(!idle.contains(name), "nothing was published: {idle}");
        }
        Some(idle).filter(|idle| {
            !idle.lines().any(|line| line.contains("heartbeats seen") && line.ends_with("none"))
        })
    });
    let long = long.expect("it sees heartbeats");
    assert!(long.contains(" pings, ") && long.contains(" pongs, ") && long.contains(" messages\n"), "{long}");
    let post = served.at("http", "/api/events");
    let broadcast = table(&["idle", &stream, "-n", "2", "--for", "0.01", "--broadcast", &post]);
    assert!(broadcast.contains("broadcast latency") && broadcast.contains("lost, duplicated"), "{broadcast}");
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
