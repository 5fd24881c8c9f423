//! The guarantees: PROTOCOL.md, "8. Guarantees". Kills are in `faults/kills.rs`, storing before broadcasting
//! in `store.rs`, keys in `v1/keys.rs`, retention in `limits/retention.rs`, and store failures in
//! `store_failures/`.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::raw::{CLOSE, TEXT, frame};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, RawSocket, Server, Socket, get, old_database, post};

fn contents(addr: std::net::SocketAddr, channel: &str) -> Vec<String> {
    let listed = get(addr, &format!("/api/messages?channel_id={channel}")).ok();
    let messages = listed["messages"].as_array().expect("a list").iter();
    messages.map(|message| message["content"].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn what_comes_in_one_turn_is_stored_together_or_not_at_all() {
    let home = Home::new();
    let server = home.serve();
    let database = Connection::open(home.database()).expect("the file opens");
    let trigger = "CREATE TRIGGER picky BEFORE INSERT ON messages WHEN new.content = 'bad'
        BEGIN SELECT raise(ABORT, 'not this one'); END";
    database.execute_batch(trigger).expect("a trigger");
    let mut client = Socket::connect(server.addr(), "/api/ws/room");
    let mut http = Http::connect(server.addr());
    http.expect_open();
    let mut send = |contents: &[&str]| {
        let requests = contents.iter().flat_map(|content| {
            request("POST", "/api/messages", &[], Some(&message("room", "a", content).to_string()))
        });
        // In one segment, so in one turn.
        http.send(requests.collect::<Vec<_>>());
        contents.iter().map(|_| http.response().status).collect::<Vec<_>>()
    };
    assert_eq!(send(&["one", "bad", "two"]), [503, 503, 503]);
    assert_eq!(contents(server.addr(), "room"), [""; 0]);
    database.execute_batch("DROP TRIGGER picky").expect("no trigger");
    assert_eq!(send(&["three", "bad", "four"]), [200, 200, 200]);
    assert_eq!(client.next_contents(3), ["three", "bad", "four"], "nobody was told of the others");
}

#[test]
fn everybody_gets_the_same_in_the_same_order() {
    const EACH: usize = 200;
    let server = Server::start();
    let addr = server.addr();
    let mut listeners = vec![
        Socket::connect(addr, "/api/ws/room?last_event_id=message-00000"),
        Socket::connect(addr, "/api/ws/room?last_event_id=message-00000"),
        Socket::connect_v1(addr, "/api/ws/room?last_event_id=message-00000"),
    ];
    let publishers = (0..4).map(|publisher| {
        std::thread::spawn(move || {
            let author = publisher.to_string();
            if publisher % 2 == 0 {
                let mut http = Http::connect(addr);
                let numbers = 0..EACH;
                http.send(
                    numbers
                        .clone()
                        .flat_map(|number| {
                            let body = message("room", &author, &number.to_string()).to_string();
                            request("POST", "/api/messages", &[], Some(&body))
                        })
                        .collect::<Vec<_>>(),
                );
                numbers.for_each(|_| drop(http.response().ok()));
            } else {
                let mut socket = Socket::connect(addr, "/api/ws/room");
                for number in 0..EACH {
                    socket.send_json(
                        &json!({"type": "message", "author": author, "content": number.to_string()}),
                    );
                }
                // It has received all of its own, so all are stored.
                (0..EACH).for_each(|_| while socket.next_data()["author"] != author.as_str() {});
            }
        })
    });
    publishers.collect::<Vec<_>>().into_iter().for_each(|publisher| publisher.join().expect("served"));
    listeners.push(Socket::connect(addr, "/api/ws/room?last_event_id=message-00000"));
    let runs = listeners.iter_mut().map(|listener| {
        let mut run = Vec::new();
        while run.len() < 4 * EACH {
            let next = listener.next();
            if next["type"] == "message" {
                run.push(next["data"].clone());
            }
        }
        run
    });
    let runs = runs.collect::<Vec<Vec<Value>>>();
    assert!(runs[0].is_sorted_by_key(|data| data["id"].as_u64()), "the order of the ids");
    for run in &runs {
        assert!(*run == runs[0], "for those who came first and last, base and polecat.v1");
    }
    let mut next_of = BTreeMap::<&str, usize>::new();
    for data in &runs[0] {
        let next = next_of.entry(data["author"].as_str().expect("a string")).or_default();
        assert_eq!(data["content"], next.to_string(), "what one sends over one connection keeps its order");
        *next += 1;
    }
}

#[test]
fn who_publishes_and_leaves_at_once_is_stored() {
    let server = Server::start();
    let say = |content: &str| {
        let message = json!({"type": "message", "content": content});
        frame(true, TEXT, message.to_string().as_bytes())
    };
    // With a Close in the same segment; it gets no broadcast.
    let mut polite = RawSocket::connect(server.addr(), "/api/ws/room");
    polite.send(&[say("closed"), frame(true, CLOSE, &1000_u16.to_be_bytes())].concat());
    assert_eq!(polite.next_frame().expect("an answer").opcode, CLOSE);
    assert_eq!(polite.next_frame(), None);
    assert_eq!(contents(server.addr(), "room"), ["closed"]);
    // Without one.
    let mut listener = Socket::connect(server.addr(), "/api/ws/room");
    let mut hasty = RawSocket::connect(server.addr(), "/api/ws/room");
    hasty.send(&say("ended"));
    hasty.stream().shutdown(std::net::Shutdown::Write).expect("it can be ended");
    assert_eq!(listener.next_contents(1), ["ended"]);
}

#[test]
fn what_comes_after_the_close_of_the_server_is_not_stored() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--drain", "3600"]);
    let mut client = RawSocket::connect(process.addr(), "/api/ws/room");
    process.signal(Signal::TERM);
    let close = client.next_message();
    assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    client.send_frame(true, TEXT, br#"{"type":"message","content":"too late"}"#);
    client.send_frame(true, CLOSE, &1001_u16.to_be_bytes());
    assert_eq!(client.next_frame(), None);
    assert_eq!(process.wait().status.code(), Some(0));
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages").ok(), json!({"messages": []}));
}

#[test]
fn who_forgot_what_it_has_seen_gets_it_again() {
    let server = Server::start();
    for number in 1..=5 {
        post(server.addr(), "/api/messages", &message("room", "a", &number.to_string())).ok();
    }
    let mut client = Socket::connect(server.addr(), "/api/ws/room?last_event_id=message-00002");
    assert_eq!(client.next_contents(3), ["3", "4", "5"]);
    client.expect_nothing_more();
    let mut again = Socket::connect(server.addr(), "/api/ws/room?last_event_id=message-00002");
    assert_eq!(again.next_contents(3), ["3", "4", "5"]);
}

#[test]
fn published_twice_is_stored_twice() {
    let server = Server::start();
    let body = message("room", "a", "the same");
    for id in 1..=2 {
        assert_eq!(post(server.addr(), "/api/messages", &body).ok()["message"]["id"], id);
    }
    let mut client = Socket::connect(server.addr(), "/api/ws/room?last_event_id=message-00000");
    let say = json!({"type": "message", "content": "the same"});
    client.send_json(&say);
    client.send_json(&say);
    for id in 1..=4 {
        assert_eq!(client.next_data()["id"], id);
    }
}

#[test]
fn what_another_program_adds_is_history_and_not_broadcast() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    let mut live = Socket::connect(addr, "/api/ws/room");
    post(addr, "/api/messages", &message("room", "a", "before")).ok();
    let other = Connection::open(home.database()).expect("the file opens");
    let mode = other.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    assert_eq!(mode, Ok("wal".to_owned()), "a commit goes to the write-ahead log");
    let insert =
        "INSERT INTO messages (channel_id, author, content, timestamp) VALUES ('room', 'b', 'between', ?1)";
    other.execute(insert, [old_database::TIMESTAMP]).expect("another program can write");
    post(addr, "/api/messages", &message("room", "a", "after")).ok();
    assert_eq!(live.next_contents(2), ["before", "after"]);
    live.expect_nothing_more();
    assert_eq!(contents(addr, "room")[..3], ["before", "between", "after"]);
    // A replay from the database has it; memory has only messages that were published here.
    process.kill();
    let server = home.serve();
    let mut resumed = Socket::connect(server.addr(), "/api/ws/room?last_event_id=message-00000");
    assert_eq!(resumed.next_contents(3), ["before", "between", "after"]);
}
