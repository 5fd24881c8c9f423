//! An interrupted run reports its results so far: docs/load.md, "Load tests".

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tungstenite::Message;

use super::Outcome;
use crate::support::{Home, PATIENCE, Server};

/// A run without end that can be interrupted.
struct Run {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Run {
    fn begin(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polecat"));
        command.arg("load").args(args).args(["--json", "--stages", "--for", "3600", "--patience", "3600"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        Self { child, stderr }
    }

    /// Waits until that stage begins.
    fn wait_for(&mut self, stage: &str) {
        let mut line = String::new();
        while !line.starts_with(stage) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).expect("a line"), 0, "{stage} does not come");
        }
    }

    fn interrupt(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    fn outcome(mut self) -> Outcome {
        let mut text = String::new();
        self.child.stdout.take().expect("stdout is piped").read_to_string(&mut text).expect("text");
        let status = self.child.wait().expect("it ends").code();
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        Outcome { report, status }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn whatever_it_does_it_tells_what_came_of_it() {
    let home = Home::new();
    let server = home.serve();
    let at = |scheme: &str, path: &str| format!("{scheme}://{}{path}", server.addr());
    let (echo, room, stream) = (at("ws", "/api/ws"), at("ws", "/api/ws/room"), at("ws", "/ws"));
    let (messages, events) = (at("http", "/api/messages"), at("http", "/api/events"));
    for args in [
        &["echo", &echo, "-c", "2", "--depth", "4"][..],
        &["fanout", &room, "-c", "4", "--window", "2", "--publishers", "2"],
        &["fanout", &room, "-c", "4", "--rate", "100", "--post", &messages],
        &["publish", &messages, "-c", "2"],
        &["storm", &room, "-c", "4", "--rate", "100", "--rounds", "1", "--post", &messages],
        &["idle", &stream, "-n", "4", "--broadcast", &events],
    ] {
        for (stage, signal) in [("warming-up", Signal::TERM), ("measuring", Signal::INT)] {
            let mut run =
                Run::begin(&[args, &["--warm-up", if stage == "measuring" { "0" } else { "3600" }]].concat());
            run.wait_for(stage);
            run.interrupt(signal);
            let outcome = run.outcome();
            outcome.expect_good();
            assert_eq!(outcome.report["interrupted"], true, "{args:?}: {}", outcome.report);
            assert!(outcome.count("connections") >= 2, "{}", outcome.report);
            assert_eq!(outcome.count("connections"), outcome.count("alive"), "{}", outcome.report);
            // Two of them do not warm up.
            if stage == "warming-up" && !["idle", "storm"].contains(&args[0]) {
                assert_eq!(outcome.count("operations"), 0, "{}", outcome.report);
            }
        }
    }
}

#[test]
fn what_is_not_open_yet_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let run =
        Run::begin(&["idle", &format!("ws://{}/", listener.local_addr().expect("an address")), "-n", "1"]);
    let (_silent, _) = listener.accept().expect("a connection");
    run.interrupt(Signal::INT);
    let outcome = run.outcome();
    assert_eq!((outcome.status, &outcome.report["interrupted"]), (Some(1), &Value::from(true)));
    assert_eq!([outcome.count("connections"), outcome.count("handshakes")], [0; 2], "{}", outcome.report);
    assert_eq!(outcome.report["ended"], serde_json::json!({}), "nobody has ended it");
}

#[test]
fn a_second_interrupt_waits_for_nothing_more() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}/", listener.local_addr().expect("an address"));
    let mut run = Run::begin(&["echo", &url, "-c", "1", "--depth", "4", "--warm-up", "0"]);
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut silent = tungstenite::accept(stream).unwrap_or_else(|error| panic!("no handshake: {error}"));
    for _ in 0..4 {
        assert!(matches!(silent.read(), Ok(Message::Text(_))));
    }
    run.wait_for("measuring");
    run.interrupt(Signal::INT);
    run.wait_for("finishing");
    run.interrupt(Signal::INT);
    let outcome = run.outcome();
    assert_eq!((outcome.count("published"), outcome.count("operations")), (4, 0), "{}", outcome.report);
    assert_eq!(outcome.faults(), [0; 4], "what was not waited for is not lost");
    assert_eq!(outcome.report["interrupted"], true);
}

#[test]
fn a_run_that_ends_by_itself_was_not_interrupted() {
    let server = Server::start();
    let outcome = super::load(&["echo", &format!("ws://{}/api/ws", server.addr()), "--for", "0.1"]);
    assert_eq!(outcome.report["interrupted"], false);
}
