//! Nothing stored, `--db off`: PROTOCOL.md, "8. Guarantees", and docs/operating.md, "Flags".

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::process::run;
use crate::support::socket::message;
use crate::support::{Home, Http, Process, Socket, get, is_uuid_v4, post};

/// A server that stores nothing, started in `folder`.
fn serve_in(folder: &Path, flags: &[&str]) -> Process {
    Process::start(|command| {
        command.current_dir(folder).args(["--listen", "127.0.0.1:0", "--db", "off"]).args(flags);
    })
}

fn hello(client: &mut Socket) -> Value {
    client.next_payload("hello")
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nothing_is_written_and_hello_says_so() {
    let home = Home::new();
    let database = home.database();
    let folder = database.parent().expect("a folder");
    let process = serve_in(folder, &[]);
    post(process.addr(), "/api/messages", &message("room", "a", "one")).ok();
    post(process.addr(), "/api/events", &json!({"type": "t"})).ok();
    for path in ["/ws", "/api/ws/room"] {
        let hello = hello(&mut Socket::connect_v1(process.addr(), path));
        assert_eq!(hello["stored"], false, "{hello}");
        assert!(is_uuid_v4(hello["epoch"].as_str().expect("a string")), "{hello}");
    }
    assert_eq!(files_in(folder), Vec::<String>::new());
    process.signal(rustix::process::Signal::TERM);
    let ended = process.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.iter().any(|line| line.ends_with("and storing nothing (--db off)")), "{ended:?}");
    assert_eq!(files_in(folder), Vec::<String>::new());
}

#[test]
fn the_variable_says_it_too_and_a_file_of_that_name_can_be_had() {
    let home = Home::new();
    let database = home.database();
    let folder = database.parent().expect("a folder");
    let start = |db: &str| {
        Process::start(|command: &mut Command| {
            command.current_dir(folder).env("POLECAT_DB", db).args(["--listen", "127.0.0.1:0"]);
        })
    };
    let process = start("off");
    assert_eq!(hello(&mut Socket::connect_v1(process.addr(), "/ws"))["stored"], false);
    assert_eq!(files_in(folder), Vec::<String>::new());
    let process = start("./off");
    assert_eq!(hello(&mut Socket::connect_v1(process.addr(), "/ws"))["stored"], true);
    assert!(files_in(folder).contains(&"off".to_owned()));
}

#[test]
fn what_only_a_file_can_do_is_a_wrong_command_line() {
    for flags in [&["--durability", "full"][..], &["--retain-days", "1"]] {
        let ended = run(|command| {
            command.args(["serve", "--db", "off", "--listen", "127.0.0.1:0"]).args(flags);
        });
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(2), 1), "{ended:?}");
        assert!(ended.stderr[0].contains(flags[0]), "{ended:?}");
    }
}

#[test]
fn lists_and_totals_are_of_what_is_in_memory() {
    let home = Home::new();
    let process = serve_in(home.database().parent().expect("a folder"), &["--retain-messages", "3"]);
    for (channel, tokens) in [("a", 1), ("b", 2), ("a", 4), ("c", 8)] {
        let mut body = message(channel, "ann", "x");
        body["provider"] = json!(format!("p-{channel}"));
        body["token_count"] = json!(tokens);
        post(process.addr(), "/api/messages", &body).ok();
    }
    let ids = |target: &str| {
        let listed = get(process.addr(), target).ok();
        let messages = listed["messages"].as_array().expect("a list").clone();
        messages.iter().map(|message| message["id"].as_u64().expect("an id")).collect::<Vec<_>>()
    };
    assert_eq!(ids("/api/messages"), [2, 3, 4]);
    assert_eq!(ids("/api/messages?channel_id=a"), [3]);
    assert_eq!(ids("/api/messages?limit=1&before=4"), [3]);
    assert_eq!(get(process.addr(), "/api/channels").ok(), json!({"channels": ["a", "b", "c"]}));
    let summary = get(process.addr(), "/api/summary").ok()["summary"].clone();
    assert_eq!((&summary["total_messages"], &summary["total_tokens"]), (&json!(3), &json!(14)));
    assert_eq!(summary["by_provider"], json!({"p-a": 1, "p-b": 1, "p-c": 1}));
    assert_eq!(get(process.addr(), "/api/health").ok(), json!({"status": "ok"}));
}

#[test]
fn a_key_is_remembered_while_its_message_is() {
    let home = Home::new();
    let process = serve_in(home.database().parent().expect("a folder"), &["--retain-messages", "2"]);
    let mut http = Http::connect(process.addr());
    let body = message("room", "a", "x").to_string();
    let mut publish = |key: &str| {
        http.send(request("POST", "/api/messages", &[("Idempotency-Key", key)], Some(&body)));
        let response = http.response();
        let is_repeated = response.header("idempotency-replayed").is_some();
        (response.ok()["message"]["id"].as_u64().expect("an id"), is_repeated)
    };
    assert_eq!(publish("k"), (1, false));
    assert_eq!(publish("k"), (1, true));
    assert_eq!((publish("l"), publish("m")), ((2, false), (3, false)));
    assert_eq!(publish("k"), (4, false), "its message is no longer kept");
}

#[test]
fn a_client_resumes_from_memory_and_a_restart_is_a_gap() {
    let home = Home::new();
    let database = home.database();
    let folder = database.parent().expect("a folder");
    let process = serve_in(folder, &[]);
    for number in 1..=5 {
        post(process.addr(), "/api/messages", &message("room", "a", &number.to_string())).ok();
        post(process.addr(), "/api/events", &json!({"type": "t", "payload": {"number": number}})).ok();
    }
    let epoch = hello(&mut Socket::connect_v1(process.addr(), "/ws"))["epoch"].clone();
    let epoch = epoch.as_str().expect("a string");
    for (path, name, kind) in [("/ws", "event", "t"), ("/api/ws/room", "message", "message")] {
        let target = format!("{path}?last_event_id={name}-00003&epoch={epoch}");
        let mut client = Socket::connect_v1(process.addr(), &target);
        hello(&mut client);
        assert_eq!(client.next_payload("resumed")["count"], 2);
        for number in 4..=5 {
            assert_eq!(client.next_of_type(kind)["event_id"], format!("{name}-{number:05}"));
        }
        client.next_of_type("live");
    }
    process.kill();

    let process = serve_in(folder, &[]);
    for number in 1..=4 {
        post(process.addr(), "/api/messages", &message("room", "b", &number.to_string())).ok();
    }
    let target = format!("/api/ws/room?last_event_id=message-00003&epoch={epoch}");
    let mut client = Socket::connect_v1(process.addr(), &target);
    assert_ne!(hello(&mut client)["epoch"], *epoch, "each start has its own");
    assert_eq!(client.next_payload("gap")["requested"], "message-00003");
    assert_eq!(client.next_contents(4), ["1", "2", "3", "4"]);
    client.next_of_type("live");
}
