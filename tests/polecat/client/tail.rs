//! `polecat tail`: PROTOCOL.md, "7. Resume", as our own client does it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::command::{Running, ask, on_a_terminal, serve};
use crate::support::socket::message;
use crate::support::{Home, Server, post, skip, wait_until};

const KILLS: usize = 3;
/// Lines that are sent between two kills, half of them while the server dies.
const LINES: usize = 200;

#[test]
fn it_sees_everything_once_and_in_order_over_three_kills() {
    let home = Home::new();
    let mut server = serve(&home.database(), None, &[]);
    let addr = server.addr();
    let mut tail = Running::start(addr, &["tail", "room", "--json", "--from", "beginning"]);
    let mut send = Running::start(addr, &["send", "room", "--author", "ann"]);
    let mut seen = Vec::new();
    for round in 0..=KILLS {
        let line = |number: usize| format!("{}\n", round * LINES + number);
        send.write(&(0..LINES / 2).map(line).collect::<String>());
        // Everything from before the last kill, and some lines from after it: it is connected again.
        seen.extend(tail.lines(round * LINES + LINES / 4 - seen.len()));
        send.write(&(LINES / 2..LINES).map(line).collect::<String>());
        if round < KILLS {
            server.kill();
            server = serve(&home.database(), Some(addr), &[]);
        }
    }
    send.end_input();
    let total = (KILLS + 1) * LINES;
    seen.extend(tail.lines(total - seen.len()));
    let ids = send.lines(total);
    let (status, rest, told) = send.wait();
    assert!(status.success() && rest.is_empty(), "{status} {rest:?} {told:?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), total, "each has an id of its own");
    let seen = seen.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
    let contents =
        seen.iter().map(|message| message["data"]["content"].as_str().expect("a content").to_owned());
    assert!(contents.eq((0..total).map(|number| number.to_string())), "once and in order");
    assert!(seen.iter().map(|message| &message["event_id"]).eq(ids.iter()), "what was acknowledged");
    // Nothing that was missed comes late: the next line is the next message.
    post(addr, "/api/messages", &message("room", "ann", "last"));
    assert!(tail.lines(1)[0].contains("\"last\""));
    for _ in 0..KILLS {
        tail.told("trying again in");
        tail.told("reconnected");
    }
}

#[test]
fn it_follows_several_channels_on_one_connection_over_three_kills() {
    let home = Home::new();
    let mut server = serve(&home.database(), None, &[]);
    let addr = server.addr();
    let rooms = ["one", "two", "three"];
    let mut tail = Running::start(addr, &["tail", "one", "two", "three", "two", "--from", "beginning"]);
    let mut sends = rooms.map(|room| Running::start(addr, &["send", room, "--author", "ann"]));
    let mut seen = Vec::new();
    for round in 0..=KILLS {
        for send in &mut sends {
            send.write(&(0..LINES).map(|number| format!("{}\n", round * LINES + number)).collect::<String>());
        }
        seen.extend(tail.lines(round * LINES * 3 + LINES - seen.len()));
        if round < KILLS {
            server.kill();
            server = serve(&home.database(), Some(addr), &[]);
        }
    }
    let total = (KILLS + 1) * LINES;
    sends.iter_mut().for_each(Running::end_input);
    seen.extend(tail.lines(total * 3 - seen.len()));
    for room in rooms {
        let begins = format!(" {room} ann: ");
        let of_room = seen.iter().filter_map(|line| line.split_once(&begins)).map(|(_, content)| content);
        assert!(of_room.eq((0..total).map(|number| number.to_string())), "{room}: once and in order");
    }
    assert_eq!(seen.len(), total * 3);
    for _ in 0..KILLS {
        tail.told("trying again in");
        tail.told("reconnected");
    }
}

#[test]
fn it_follows_events_beside_channels_over_a_kill() {
    let home = Home::new();
    let server = serve(&home.database(), None, &[]);
    let addr = server.addr();
    let mut tail = Running::start(addr, &["tail", "a", "--events", "--from", "beginning"]);
    let mut seen = Vec::new();
    let mut tell = |addr, number: usize| {
        post(addr, "/api/messages", &message("a", "ann", &number.to_string())).ok();
        post(addr, "/api/events", &json!({"type": format!("e{number}"), "payload": {}})).ok();
        let mut lines = tail.lines(2);
        lines.sort_by_key(|line| line.contains(" (event) "));
        assert!(lines[0].ends_with(&format!(" a ann: {number}")), "{lines:?}");
        assert!(lines[1].contains(&format!(" (event) e{number} {{}}")), "{lines:?}");
        seen.extend(lines);
    };
    (0..3).for_each(|number| tell(addr, number));
    server.kill();
    let _server = serve(&home.database(), Some(addr), &[]);
    (3..6).for_each(|number| tell(addr, number));
    assert_eq!(seen.len(), 12);
    tail.told("reconnected");
}

#[test]
fn a_gap_names_the_channel_that_it_is_of() {
    let homes = [Home::new(), Home::new()];
    let server = serve(&homes[0].database(), None, &[]);
    let addr = server.addr();
    for content in ["a1", "a2"] {
        post(addr, "/api/messages", &message("room", "ann", content)).ok();
    }
    let mut tail = Running::start(addr, &["tail", "room", "hall", "--from", "beginning"]);
    assert!(tail.lines(2)[1].ends_with(" room ann: a2"));
    server.kill();
    let _other = serve(&homes[1].database(), Some(addr), &[]);
    let told = [tail.told(": gap: "), tail.told(": gap: ")];
    for name in ["room: gap: ", "hall: gap: "] {
        assert!(told.iter().any(|line| line.contains(name)), "{name}: {told:?}");
    }
    post(addr, "/api/messages", &message("room", "ann", "b1")).ok();
    assert!(tail.lines(1)[0].ends_with(" room ann: b1"), "the other database is followed from its beginning");
}

#[test]
fn a_name_with_an_asterisk_is_no_pattern() {
    let server = Server::start();
    for (arguments, word) in [
        (&["tail", "room-*"][..], "--exact"),
        (&["tail", "a", "b", "--from", "message-00001"], "beginning or now"),
        (&["tail", "a", "--events", "--from", "7"], "beginning or now"),
        (&["tail", "a", ""], "no name"),
    ] {
        let refused = ask(server.addr(), arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(refused.stderr.join("\n").contains(word), "{arguments:?}: {refused:?}");
    }
    post(server.addr(), "/api/messages", &message("room-*", "ann", "hi")).ok();
    let exact = ask(server.addr(), &["tail", "room-*", "--exact", "--from", "beginning", "-n", "1"]);
    assert!(exact.stdout.ends_with(" ann: hi\n"), "{exact:?}");
    let refused = ask(server.addr(), &["tail", "..", "a"]);
    assert!(
        refused.status.code() == Some(1) && refused.stderr.join("\n").contains("invalid_name"),
        "{refused:?}"
    );
}

#[test]
fn it_comes_again_when_the_server_has_asked_for_it() {
    let home = Home::new();
    let server = serve(&home.database(), None, &["--drain", "1"]);
    let addr = server.addr();
    let mut tail = Running::start(addr, &["tail", "--from", "beginning"]);
    ask(addr, &["event", "first"]);
    assert!(tail.lines(1)[0].contains(" first {} "));
    server.signal(Signal::TERM);
    let line = tail.told("1001 going away");
    let (_, wait) = line.split_once("trying again in ").expect("a time");
    let wait = wait.trim_end_matches(" s").parse::<f64>().expect("seconds");
    // Half a second, and a part of the time for the shutdown.
    assert!((0.5..=1.5).contains(&wait), "{line}");
    assert!(server.wait().status.success());
    let _server = serve(&home.database(), Some(addr), &[]);
    let event = ask(addr, &["event", "second", "{\"a\":1.50}", "--correlation-id", "r-1"]);
    assert_eq!(event.stdout, "event-00002\n", "{event:?}");
    let line = tail.lines(1).remove(0);
    assert!(line.starts_with("2 ") && line.ends_with(" second {\"a\":1.50} r-1"), "{line}");
}

#[test]
fn a_gap_is_told_and_another_database_is_followed_from_its_beginning() {
    let homes = [Home::new(), Home::new()];
    let server = serve(&homes[0].database(), None, &[]);
    let addr = server.addr();
    for content in ["a1", "a2"] {
        post(addr, "/api/messages", &message("room", "ann", content)).ok();
    }
    let mut tail = Running::start(addr, &["tail", "room", "--from", "message-00001"]);
    assert!(tail.lines(1)[0].ends_with(" ann: a2"));
    server.kill();
    // The other server has its message before any client can ask for it.
    let unseen = homes[1].serve();
    post(unseen.addr(), "/api/messages", &message("room", "bob", "b1")).ok();
    unseen.stop();
    let _server = serve(&homes[1].database(), Some(addr), &[]);
    assert!(tail.told("gap: ").contains("message-00002"));
    let line = tail.lines(1).remove(0);
    assert!(line.starts_with("1 ") && line.ends_with(" bob: b1"), "{line}");
}

#[test]
fn a_restored_copy_is_followed_from_where_it_was_made() {
    let home = Home::new();
    let server = serve(&home.database(), None, &[]);
    let addr = server.addr();
    let publish = |contents: &[&str]| {
        for content in contents {
            post(addr, "/api/messages", &message("room", "ann", content)).ok();
        }
    };
    publish(&["1", "2", "3"]);
    let copy = home.database().with_file_name("copy.db");
    let copied = ask(
        addr,
        &["backup", copy.to_str().expect("a path"), "--db", home.database().to_str().expect("a path")],
    );
    assert!(copied.status.success(), "{copied:?}");
    publish(&["lost 4", "lost 5"]);
    let mut tail = Running::start(addr, &["tail", "room", "--from", "message-00001"]);
    let shown = tail.lines(4);
    assert!(shown[3].ends_with(" ann: lost 5"), "{shown:?}");
    server.signal(Signal::TERM);
    assert!(server.wait().status.success());
    tail.told("trying again in");
    // It has its messages before any client can ask for them.
    std::fs::copy(copy, home.database()).expect("the file");
    let unseen = home.serve();
    for content in ["new 4", "new 5", "new 6"] {
        post(unseen.addr(), "/api/messages", &message("room", "ann", content)).ok();
    }
    unseen.stop();
    let _server = serve(&home.database(), Some(addr), &[]);
    let line = tail.told("gap: ");
    assert!(line.contains("after message-00003"), "{line}");
    let contents =
        tail.lines(3).iter().map(|line| line.split(": ").nth(1).map(str::to_owned)).collect::<Vec<_>>();
    assert_eq!(contents, ["new 4", "new 5", "new 6"].map(|content| Some(content.to_owned())));
}

#[test]
fn events_that_are_called_like_control_messages_are_shown() {
    let server = Server::start();
    let kinds = ["error", "ack", "gap", "hello", "reconnect", "message", "heartbeat"];
    for (kind, correlation_id) in kinds.into_iter().zip(["r-1", "", "r-2", ""].into_iter().cycle()) {
        let event = ["event", kind, "--correlation-id", correlation_id];
        assert!(ask(server.addr(), &event).status.success());
    }
    let ended = ask(server.addr(), &["tail", "--from", "beginning", "-n", "7"]);
    let shown = ended.stdout.lines().filter_map(|line| line.split(' ').nth(3));
    assert!(shown.eq(kinds) && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn ctrl_c_ends_it_as_it_ends_others() {
    let server = Server::start();
    post(server.addr(), "/api/messages", &message("room", "ann", "hi")).ok();
    let mut tail = Running::start_interruptible(server.addr(), &["tail", "room", "--from", "beginning"]);
    tail.lines(1);
    tail.signal(Signal::INT);
    let (status, rest, told) = tail.wait();
    assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status}");
    assert!(rest.is_empty() && told.is_empty(), "{told:?}");
}

#[test]
fn it_begins_where_it_is_told_and_ends_after_so_many() {
    let server = Server::start();
    for content in ["1", "2", "3"] {
        post(server.addr(), "/api/messages", &message("a/b ü", "ann", content)).ok();
        post(server.addr(), "/api/messages", &message("other", "ann", content)).ok();
    }
    for (from, count, contents) in [
        ("beginning", "3", "123"),
        ("0", "1", "1"),
        ("message-00001", "2", "23"),
        ("4", "1", "3"),
        // This id was never given: that is a gap, and everything follows.
        ("100", "3", "123"),
    ] {
        let ended = ask(server.addr(), &["tail", "a/b ü", "--from", from, "-n", count]);
        let last = ended.stdout.lines().filter_map(|line| line.rsplit(' ').next()).collect::<String>();
        assert_eq!((last.as_str(), ended.status.code()), (contents, Some(0)), "{from}: {ended:?}");
        assert_eq!(ended.stderr.len(), usize::from(from == "100"), "{ended:?}");
    }
    for (args, status) in [
        (&["tail", "--from", "message-00001"][..], 2),
        (&["tail", "room", "--from", "event-1"], 2),
        (&["tail", "room", "-n", "0"], 2),
        (&["tail", "\u{7}"], 1),
        (&["tail", "--url", "http://127.0.0.1:1"], 1),
        (&["tail", "--url", "https://127.0.0.1:1"], 2),
    ] {
        let ended = ask(server.addr(), args);
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(status), 1), "{args:?} {ended:?}");
        assert!(ended.stderr[0].starts_with("polecat: "), "{ended:?}");
    }
}

#[test]
fn a_wrong_command_line_says_what_is_wrong_with_it() {
    let server = Server::start();
    for (args, status, parts, misleading) in [
        (&["status", "--url", "http://127.0.0.1:99999"][..], 2, &["--url", "port"][..], ":80"),
        (&["tail", "--url", "http://127.0.0.1:x"], 2, &["--url", "port"], ":80"),
        (&["load", "echo", "ws://127.0.0.1:99999/api/ws"], 2, &["port"], "lookup"),
        (&["tail", "--url", "http://[::1"], 2, &["--url", "http://127.0.0.1:8010"], "lookup"),
        (&["tail", "room", "-n", "0"], 2, &["--count", "above 0"], "POLECAT"),
        (&["tail", "room", "-n0"], 2, &["--count", "above 0"], "POLECAT"),
        (&["send", "room", "x", "--token-count", "x"], 2, &["--token-count", "not a whole number"], "digit"),
        (
            &["send", "room", "x", "--token-count", "9e9"],
            2,
            &["--token-count", "not a whole number"],
            "digit",
        ),
        (&["load", "echo", "ws://127.0.0.1/", "-c", "x"], 2, &["-c", "not a whole number"], "digit"),
        (&["event", "t", r#"{"x":1e400}"#], 2, &["JSON", "number out of range at line 1"], "422"),
        (&["event", "t", r#"{"x":"\ud800"}"#], 2, &["JSON", "hex escape"], "422"),
    ] {
        let ended = ask(server.addr(), args);
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(status), 1), "{args:?} {ended:?}");
        let said = &ended.stderr[0];
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
        assert!(!said.contains(misleading), "{args:?}: {said}");
    }
}

#[test]
fn what_comes_only_is_the_default() {
    let server = Server::start();
    post(server.addr(), "/api/messages", &message("room", "ann", "before")).ok();
    let mut tail = Running::start(server.addr(), &["tail", "room", "-n", "1"]);
    // The subscriber is there once a broadcast reaches it.
    let mut number = 0;
    wait_until("it gets one", || {
        number += 1;
        post(server.addr(), "/api/messages", &message("room", "ann", &format!("after {number}"))).ok();
        tail.has_ended()
    });
    let (status, lines, _) = tail.wait();
    assert!(status.success());
    assert!(lines.len() == 1 && lines[0].contains(" ann: after "), "{lines:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let server = Server::start();
    let url = format!("http://{}", server.addr());
    for content in ["1", "2"] {
        post(server.addr(), "/api/messages", &message("room", "ann", content)).ok();
    }
    for script in [
        // It has more output.
        "\"$0\" tail room --from beginning | head -n 1; exit ${PIPESTATUS[0]}",
        // It waits, and nothing comes.
        "\"$0\" tail room --from beginning | head -n 2; exit ${PIPESTATUS[0]}",
        "\"$0\" completions bash | head -n 1; exit ${PIPESTATUS[0]}",
    ] {
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_polecat")]).env("POLECAT_URL", &url);
        let output = command.stdin(Stdio::null()).output().expect("a shell");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{script}");
    }
}

#[test]
fn there_are_colours_on_a_terminal_only_and_nothing_commands_it() {
    let server = Server::start();
    let content = "red \u{1b}[31m\nand \u{9b}1m more";
    post(server.addr(), "/api/messages", &message("room", "ann", content)).ok();
    let args = ["tail", "room", "--from", "beginning", "-n", "1"];
    let line = ask(server.addr(), &args).stdout;
    let shown = r"ann: red \u{1b}[31m\nand \u{9b}1m more";
    assert!(line.trim_end().ends_with(shown) && !line.contains('\u{1b}'), "{line:?}");
    let as_json = ask(server.addr(), &[&args[..], &["--json"]].concat()).stdout;
    let value = serde_json::from_str::<Value>(&as_json).expect("a line of JSON");
    assert_eq!(value["data"]["content"], json!(content));
    let args = args.join(" ");
    let Some(coloured) = on_a_terminal(server.addr(), &args, &[]) else {
        return skip("there is no script(1) to make a terminal");
    };
    assert!(coloured.contains("\u{1b}[36mann\u{1b}[0m: red \\u{1b}[31m"), "{coloured:?}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let line = on_a_terminal(server.addr(), &args, &[plain]).expect("it was there");
        assert!(line.trim_end().ends_with(shown) && !line.contains('\u{1b}'), "{line:?}");
    }
}
