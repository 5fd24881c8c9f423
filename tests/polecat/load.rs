//! `polecat load`, run as a user would: against a server of ours, which does well, and against bad ones
//! (`load/bad.rs`), which it must catch. docs/load.md, "Load tests".

mod bad;
mod interrupts;
mod workloads;

use std::net::TcpListener;

use serde_json::Value;

use crate::support::process::{Ended, run};

/// The output of a run as JSON, and its end.
struct Outcome {
    report: Value,
    status: Option<i32>,
}

impl Outcome {
    fn count(&self, name: &str) -> u64 {
        self.report[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {}", self.report))
    }

    /// Lost, duplicated, reordered, wrong.
    fn faults(&self) -> [u64; 4] {
        ["lost", "doubled", "disordered", "wrong"].map(|name| self.count(name))
    }

    /// Checks that everything arrived, and that no connection was closed.
    fn expect_good(&self) {
        let ended = self.report["ended"].as_object().map(serde_json::Map::len);
        assert_eq!((self.status, self.faults(), ended), (Some(0), [0; 4], Some(0)), "{}", self.report);
    }

    /// Checks that it reports a failure, with the reason.
    fn expect_ended(&self, reason: &str, count: u64) {
        assert_eq!(self.status, Some(1), "{}", self.report);
        assert_eq!(self.report["ended"][reason], count, "{}", self.report);
    }
}

fn polecat_load(args: &[&str]) -> Ended {
    run(|command| {
        command.arg("load").args(args);
    })
}

fn load(args: &[&str]) -> Outcome {
    let ended = polecat_load(&[args, &["--json", "--warm-up", "0.1"]].concat());
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    Outcome { report, status: ended.status.code() }
}

/// Runs `load` for a time, and for longer ones until it has done enough: how much it does in a time depends
/// on the machine. `is_enough` may also assert.
fn load_until(is_enough: impl Fn(&Outcome) -> bool, mut load: impl FnMut(&str) -> Outcome) -> Outcome {
    for seconds in ["0.3", "3"] {
        let outcome = load(seconds);
        if is_enough(&outcome) {
            return outcome;
        }
    }
    let outcome = load("30");
    assert!(is_enough(&outcome), "{}", outcome.report);
    outcome
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_2() {
    for (args, named) in [
        (&["fly", "ws://127.0.0.1/"][..], "fly"),
        (&["echo"], "URL"),
        (&["echo", "wss://127.0.0.1/"], "ws://"),
        (&["echo", "ws://127.0.0.1/", "-c", "0"], "-c"),
        (&["echo", "ws://127.0.0.1/", "--size", "3"], "--size"),
        (&["echo", "ws://127.0.0.1/", "--for", "soon"], "--for"),
        (&["idle", "ws://127.0.0.1/", "-n", "99999999999"], "-n"),
        (&["idle", "ws://127.0.0.1/", "--sources", "127.0.0.9-127.0.0.1"], "--sources"),
        (&["fanout", "ws://127.0.0.1/", "--rate", "0"], "--rate"),
        (&["fanout", "ws://127.0.0.1/", "--raw"], "--post"),
        (&["fanout", "ws://127.0.0.1/", "--slow", "101"], "--slow"),
    ] {
        let ended = polecat_load(args);
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(2), 1), "{args:?}: {ended:?}");
        assert!(ended.stderr[0].contains(named) && ended.stderr[0].contains("--help"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    let (unknown, wrong) = (polecat_load(&["fly"]), polecat_load(&["echo"]));
    assert!(unknown.stderr[0].ends_with("see polecat load --help"), "{unknown:?}");
    assert!(wrong.stderr[0].ends_with("see polecat load echo --help"), "{wrong:?}");
}

const WORKLOADS: [&str; 5] = ["idle", "echo", "fanout", "publish", "storm"];

#[test]
fn without_a_workload_its_help_is_on_stderr() {
    let ended = polecat_load(&[]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    let help = polecat_load(&["--help"]);
    assert_eq!((help.status.code(), help.stderr.len()), (Some(0), 0), "{help:?}");
    assert_eq!(ended.stderr, help.stdout.trim_end().lines().collect::<Vec<_>>());
    for workload in WORKLOADS {
        assert!(help.stdout.contains(&format!("\n  {workload} ")), "{workload}: {}", help.stdout);
    }
}

#[test]
fn the_help_of_each_workload_says_which_url_it_needs_and_gives_an_example() {
    let mut expected = Vec::new();
    for workload in WORKLOADS {
        let help = polecat_load(&[workload, "--help"]).stdout;
        let (_, url) = help.split_once("\n  <URL>").unwrap_or_else(|| panic!("no URL: {help}"));
        let (url, _) = url.split_once("\n\n").unwrap_or_else(|| panic!("no end: {help}"));
        let url = url.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(url.contains("such as ws://") || url.contains("such as http://"), "{workload}: {url}");
        assert!(help.contains(&format!("\n  polecat load {workload} ")), "no example: {help}");
        expected.push(url);
    }
    assert_ne!(expected[0], expected[1], "an echo is not just any WebSocket");
    assert_ne!(expected[1], expected[2], "nor is a channel one that echoes");
    assert_ne!(expected[2], expected[3], "nor is a channel posted to");
}

#[test]
fn more_connections_than_descriptors_is_one_line_and_exit_1() {
    let ended = polecat_load(&["idle", "ws://127.0.0.1/", "-n", "10000000"]);
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(1), 1), "{ended:?}");
    assert!(ended.stderr[0].contains("ulimit -n"), "{ended:?}");
}

#[test]
fn who_is_refused_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    drop(listener);
    let outcome = load(&["idle", &format!("ws://{addr}/ws"), "-n", "7", "--for", "0.1"]);
    outcome.expect_ended("connection refused", 7);
    assert_eq!((outcome.count("connections"), outcome.count("handshakes")), (0, 0));
    let outcome = load(&["publish", &format!("http://{addr}/"), "--for", "0.1"]);
    outcome.expect_ended("connection refused", 1);
}
