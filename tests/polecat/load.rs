//! `polecat load`, run as a user would: against a server of ours, which does well, and
//! against bad ones (`load/bad.rs`), which it must catch. README.md, "Load".

mod bad;
mod workloads;

use std::net::TcpListener;

use serde_json::Value;

use crate::support::process::{Ended, run};

/// What a run printed, as JSON, and how it ended.
struct Outcome {
    report: Value,
    status: Option<i32>,
}

impl Outcome {
    fn count(&self, name: &str) -> u64 {
        self.report[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {}", self.report))
    }

    /// Lost, doubled, out of order, wrong.
    fn faults(&self) -> [u64; 4] {
        ["lost", "doubled", "disordered", "wrong"].map(|name| self.count(name))
    }

    /// That everything came, and nobody was ended.
    fn expect_good(&self) {
        let ended = self.report["ended"].as_object().map(serde_json::Map::len);
        assert_eq!((self.status, self.faults(), ended), (Some(0), [0; 4], Some(0)), "{}", self.report);
    }

    /// That it says so where not all was well, and whose fault it was.
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
        assert!(ended.stderr[0].contains(named) && ended.stderr[0].contains("load --help"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
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
