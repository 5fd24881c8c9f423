//! `polecat send` and `polecat event`: messages that are published over breaks are stored once, PROTOCOL.md,
//! "8. Guarantees".

use std::net::SocketAddr;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use super::command::{Running, ask, serve};
use super::proxy::Proxy;
use crate::support::socket::message;
use crate::support::{Home, Process, Server, get, post, wait_until};

fn contents(addr: SocketAddr, channel: &str) -> Vec<String> {
    let list = get(addr, &format!("/api/messages?limit=1000&channel_id={channel}")).ok();
    let messages = list["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["content"].as_str().expect("a content").to_owned()).collect()
}

#[test]
fn each_line_of_a_pipe_is_stored_once_over_a_restart() {
    let home = Home::new();
    let server = serve(&home.database(), None, &["--drain", "0.5"]);
    let addr = server.addr();
    let mut send = Running::start(addr, &["send", "room", "--lane", "ops", "--token-count", "2"]);
    let lines =
        |range: std::ops::Range<u32>| range.map(|number| format!("line {number}\n")).collect::<String>();
    send.write(&lines(0..300));
    let mut ids = send.lines(100);
    send.write(&lines(300..400));
    server.signal(Signal::TERM);
    assert!(server.wait().status.success());
    let _server = serve(&home.database(), Some(addr), &[]);
    // The last line has no end.
    send.write(&(lines(400..499) + "line 499"));
    send.end_input();
    ids.extend(send.lines(400));
    let (status, rest, told) = send.wait();
    assert!(status.success() && rest.is_empty(), "{status} {rest:?} {told:?}");
    assert!(contents(addr, "room").into_iter().eq((0..500).map(|number| format!("line {number}"))));
    assert!(ids.into_iter().eq((1..=500).map(|id| format!("message-{id:05}"))));
    let summary = get(addr, "/api/summary").ok();
    assert_eq!(summary["summary"]["total_tokens"], 1000);
    assert_eq!(summary["summary"]["by_lane"]["ops"], 500);
}

#[test]
fn what_was_stored_and_not_acknowledged_is_not_stored_again() {
    let server = Server::start();
    let proxy = Proxy::before(server.addr(), b"\"type\":\"live\"");
    let mut send = Running::start(proxy.addr, &["send", "room", "--window", "50"]);
    send.write(&(0..80).map(|number| format!("{number}\n")).collect::<String>());
    send.end_input();
    wait_until("what is sent arrives", || contents(server.addr(), "room").len() >= 50);
    // No response has come back. The next bytes, a message of another client, end the connection.
    proxy.cut();
    post(server.addr(), "/api/messages", &message("room", "other", "cut")).ok();
    let (status, ids, told) = send.wait();
    assert!(status.success() && ids.len() == 80, "{ids:?} {told:?}");
    assert!(told.iter().any(|line| line.contains("trying again in")), "{told:?}");
    let stored = contents(server.addr(), "room").into_iter().filter(|content| content != "cut");
    assert!(stored.eq((0..80).map(|number| number.to_string())), "once, and in order");
    // The same with an event, whose response is lost from its first byte on.
    let proxy = Proxy::before(server.addr(), b"");
    let event = Running::start(proxy.addr, &["event", "once", "--timeout", "0.3", "--retry", "20"]);
    let (status, ids, told) = event.wait();
    assert!(status.success() && ids == ["event-00001"] && !told.is_empty(), "{ids:?} {told:?}");
    assert_eq!(ask(server.addr(), &["event", "next"]).stdout, "event-00002\n");
}

#[test]
fn what_is_older_than_the_server_remembers_is_unknown_and_not_sent_again() {
    // No retry comes sooner than this.
    let server = Server::start_with(|options| options.store.idempotency_window_ms = 10);
    let addr = server.addr();
    let is_there = |content: &str| contents(addr, "room").iter().any(|stored| stored == content);
    for (args, input, last, lost) in [
        (
            &["send", "room", "--window", "2", "--retry", "20"][..],
            "1\n2\n3\n4\n",
            "2",
            &["line 1", "line 2"][..],
        ),
        (&["send", "room", "only", "--retry", "20"], "", "only", &["the message"]),
    ] {
        let proxy = Proxy::before(addr, b"\"type\":\"live\"");
        let mut send = Running::start(proxy.addr, args);
        send.write(input);
        send.end_input();
        wait_until("what is sent arrives", || is_there(last));
        // No response has come back. The next bytes, a message of another client, end the connection.
        proxy.cut();
        post(addr, "/api/messages", &message("room", "other", "cut")).ok();
        let (status, ids, told) = send.wait();
        assert_eq!((status.code(), ids.len()), (Some(1), if input.is_empty() { 0 } else { 2 }), "{told:?}");
        for what in lost {
            let is_told = |told: &&String| told.contains(&format!("{what} may or may not be stored"));
            assert_eq!(told.iter().filter(is_told).count(), 1, "{told:?}");
        }
    }
    let stored = contents(addr, "room").into_iter().filter(|content| content != "cut").collect::<Vec<_>>();
    assert_eq!(stored, ["1", "2", "3", "4", "only"], "each once");

    let proxy = Proxy::before(addr, b"");
    let (status, ids, told) = Running::start(proxy.addr, &["event", "once", "--retry", "20"]).wait();
    assert!(told.iter().any(|line| line.contains("the event may or may not be stored")), "{told:?}");
    assert_eq!((status.code(), ids.len()), (Some(1), 0), "{told:?}");
    assert_eq!(ask(addr, &["event", "next"]).stdout, "event-00002\n", "once");
}

#[test]
fn what_the_store_refused_is_sent_again_however_short_the_window_is() {
    let home = Home::new();
    let server = Process::serve(&home.database(), &["--idempotency-window", "0.01"]);
    let addr = server.addr();
    let other = Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    let mut commands =
        [Running::start(addr, &["send", "room", "kept"]), Running::start(addr, &["event", "kept"])];
    for command in &mut commands {
        command.told("trying again in");
    }
    other.execute_batch("COMMIT").expect("the lock can be let go");
    for command in commands {
        let (status, ids, told) = command.wait();
        assert!(status.success() && ids.len() == 1, "{ids:?} {told:?}");
    }
    assert_eq!(contents(addr, "room"), ["kept"]);
}

#[test]
fn what_waits_for_input_connects_again_when_there_is_some() {
    let home = Home::new();
    let server = serve(&home.database(), None, &[]);
    let addr = server.addr();
    let mut send = Running::start(addr, &["send", "room", "-q", "--retry", "20"]);
    send.write("one\n");
    let mut tail = Running::start(addr, &["tail", "room", "--from", "beginning", "-n", "1"]);
    tail.lines(1);
    assert!(tail.wait().0.success());
    server.kill();
    send.told("reconnecting when there is something to send");
    let _server = serve(&home.database(), Some(addr), &[]);
    send.write("two\r\n\n");
    send.end_input();
    let (status, ids, _) = send.wait();
    assert!(status.success() && ids.is_empty());
    assert_eq!(contents(addr, "room"), ["one", "two", ""]);
}

#[test]
fn what_is_not_stored_is_told_and_the_rest_is() {
    let server = Server::start_with(|options| options.config.limits.message_bytes_max = 1000);
    let mut send = Running::start(server.addr(), &["send", "room", "--author", "ann"]);
    send.write("a\n");
    send.write(&("x".repeat(5000) + "\n"));
    // Too long only as a message.
    send.write(&("y".repeat(990) + "\nb\n"));
    std::io::Write::write_all(send.stdin.as_mut().expect("open"), b"\xff\nc").expect("taken");
    send.end_input();
    let (status, ids, mut told) = send.wait();
    assert_eq!((status.code(), ids.len()), (Some(1), 3), "{told:?}");
    assert_eq!(contents(server.addr(), "room"), ["a", "b", "c"]);
    told.sort();
    assert_eq!(
        told,
        [
            "polecat: line 2 is longer than the 1000 bytes that the server accepts",
            "polecat: line 3 is not stored: longer than the 1000 bytes that the server accepts",
            "polecat: line 5 is not UTF-8; it is not sent",
        ]
    );
    let text = ask(server.addr(), &["send", "room", &"z".repeat(2000)]);
    assert_eq!(text.status.code(), Some(1));
    assert!(text.stderr[0].starts_with("polecat: the message is not stored"), "{text:?}");
}

#[test]
fn a_rate_limit_slows_it_down_and_loses_nothing() {
    let server = Server::start_with(|options| options.config.limits.messages_per_second_max = 15);
    let mut send = Running::start(server.addr(), &["send", "room", "-q"]);
    send.write(&(0..40).map(|number| format!("{number}\n")).collect::<String>());
    send.end_input();
    let (status, _, told) = send.wait();
    assert!(status.success() && told.iter().any(|line| line.contains("too many messages")), "{told:?}");
    assert!(contents(server.addr(), "room").into_iter().eq((0..40).map(|number| number.to_string())));
}

#[test]
fn the_same_key_is_stored_once() {
    let server = Server::start();
    for args in
        [["send", "room", "hi", "--idempotency-key", "k"], ["event", "hi", "{}", "--idempotency-key", "k"]]
    {
        let ended = [ask(server.addr(), &args), ask(server.addr(), &args)];
        assert_eq!(ended[0].stdout, ended[1].stdout, "{ended:?}");
        assert!(ended.iter().all(|ended| ended.status.success()), "{ended:?}");
    }
    assert_eq!(contents(server.addr(), "room"), ["hi"]);
    let event = ask(server.addr(), &["event", "hi", "-q"]);
    assert_eq!((event.stdout.as_str(), event.status.code()), ("", Some(0)));
    assert_eq!(ask(server.addr(), &["event", "hi"]).stdout, "event-00003\n");
}

#[test]
fn a_store_that_fails_is_waited_for_so_long() {
    let home = Home::new();
    let server = Process::serve(&home.database(), &[]);
    let addr = server.addr();
    let other = Connection::open(home.database()).expect("the database can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is to be had");
    for args in [&["send", "room", "lost", "--retry", "0.2"][..], &["event", "lost", "--retry", "0.2"]] {
        let ended = ask(addr, args);
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        let last = ended.stderr.last().expect("a line");
        assert!(last.contains("given up after 0.2 s") && last.contains("locked"), "{ended:?}");
    }
    let mut commands =
        [Running::start(addr, &["send", "room", "kept"]), Running::start(addr, &["event", "kept"])];
    for command in &mut commands {
        command.told("trying again in");
    }
    other.execute_batch("COMMIT").expect("the lock can be let go");
    for command in commands {
        let (status, ids, told) = command.wait();
        assert!(status.success() && ids.len() == 1, "{ids:?} {told:?}");
    }
    assert_eq!(contents(addr, "room"), ["kept"]);
}

#[test]
fn the_last_line_says_what_may_be_stored_if_the_server_does_not_come_back() {
    for (args, input, stored, last) in [
        (
            &["send", "room", "only", "--retry", "0.2"][..],
            "",
            "only",
            "polecat: the message may or may not be stored: ",
        ),
        (&["send", "room", "--retry", "0.2"], "1\n2\n", "2", "; line 1 and those after it may not be stored"),
    ] {
        let home = Home::new();
        let server = Process::serve(&home.database(), &[]);
        let proxy = Proxy::before(server.addr(), b"\"type\":\"live\"");
        let mut send = Running::start(proxy.addr, args);
        send.write(input);
        let is_there = || contents(server.addr(), "room").iter().any(|content| content == stored);
        wait_until("what is sent arrives", is_there);
        // No response has come back.
        server.kill();
        let (status, ids, told) = send.wait();
        assert_eq!((status.code(), ids.len()), (Some(1), 0), "{told:?}");
        let line = told.last().expect("a line");
        assert!(line.contains(last) && line.contains("given up after 0.2 s"), "{told:?}");
    }
}

#[test]
fn an_event_is_what_was_written() {
    let server = Server::start();
    let mut event = Running::start(server.addr(), &["event", "scan", "-"]);
    event.write("{\"b\": 1.50,\n \"a\": [1]}");
    event.end_input();
    assert_eq!(event.lines(1), ["event-00001"]);
    assert!(event.wait().0.success());
    let ended = ask(server.addr(), &["tail", "--json", "--from", "beginning", "-n", "1"]);
    assert!(ended.stdout.contains("\"payload\":{\"b\": 1.50,  \"a\": [1]}"), "{}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).expect("JSON")["type"], "scan");
    for (payload, status) in [("5", 2), ("{", 2), ("[]", 2)] {
        assert_eq!(ask(server.addr(), &["event", "scan", payload]).status.code(), Some(status), "{payload}");
    }
    let long = ask(server.addr(), &["event", &"t".repeat(300)]);
    assert_eq!(long.status.code(), Some(1));
    assert_eq!(
        long.stderr,
        [format!("polecat: {} answered 422: type: String should have fewer bytes of UTF-8", server.addr())]
    );
}
