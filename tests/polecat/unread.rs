//! Peers that do not read what they have requested: the memory that they can make a server hold has a bound,
//! others are served, and when they have gone the memory is given back. PROTOCOL.md, "10. Slow readers" and
//! "13.3 Limits".

mod hog;

use std::io::Read;
use std::net::Shutdown;
use std::path::Path;

use serde_json::json;

use crate::support::http::request;
use crate::support::raw::{BINARY, CLOSE, PING, RawSocket, TEXT, frame, parse, upgrade, upgrade_with};
use crate::support::socket::message;
use crate::support::{Http, wait_until};
use hog::{Hog, Site, UNSENT_BYTES};

/// Enough to hold many times what is allowed.
const CLIENTS: usize = 150;

const MIB: usize = 1 << 20;

/// Data that arrives has a limit of its own.
const SMALL_INBOXES: [&str; 2] = ["--max-inbox-bytes", "4194304"];

fn nothing(_: &mut Http) {}

/// An upgrade, followed by data for the open WebSocket.
fn open(target: &str, frames: &[u8]) -> Vec<u8> {
    [&upgrade(target), frames].concat()
}

#[test]
fn an_echo_that_never_runs_empty_holds_no_more_than_what_is_unsent() {
    const PAYLOAD: usize = 60_000;
    const ECHOES: usize = 1_000;
    const AHEAD: usize = 8 * MIB;
    let site = Site::filled(&["--max-outbox-bytes", "1048576"], nothing);
    let client = RawSocket::connect(site.addr(), "/api/ws");
    let mut sending = client.stream().try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        let one = frame(true, BINARY, &[7; PAYLOAD]);
        for _ in 0..ECHOES {
            if std::io::Write::write_all(&mut sending, &one).is_err() {
                return;
            }
        }
    });
    // It reads all the time, but never everything.
    let (mut received, mut buffer) = (0, vec![0; PAYLOAD]);
    while received + AHEAD < ECHOES * PAYLOAD && !sender.is_finished() {
        received += client.stream().read(&mut buffer).expect("it goes on");
        site.check_memory();
    }
    // The sender may be in the middle of a write that nothing else would end.
    client.stream().shutdown(Shutdown::Both).expect("it can be ended");
    sender.join().expect("the sender ends");
    site.leave();
}

#[test]
fn echoes() {
    let mut site = Site::filled(&SMALL_INBOXES, nothing);
    let bytes = open("/api/ws", &frame(true, BINARY, &[7; MIB]).repeat(2));
    site.press(CLIENTS, |_| bytes.clone());
    site.check_that_others_are_served();
    site.leave();
}

#[test]
fn a_crowd_that_has_gone_leaves_room_for_others() {
    const ROOM: usize = 1 << 30;
    let mut site = Site::with_room(ROOM as u64, &["--max-inbox-bytes", "1073741824", "--max-memory", "300M"]);
    let bytes = open("/api/ws", &frame(true, BINARY, &[7; MIB]));
    for number in 0..100 {
        site.press(10, |_| bytes.clone());
        // Small records that stay are between large ones that are deleted.
        let content = format!("{number} {}", "x".repeat(2_000));
        site.witness.post("/api/messages", &message("room", "a", &content)).ok();
    }
    site.hogs.clear();
    wait_until("others are let in", || {
        let mut http = Http::connect(site.addr());
        http.send_what_is_taken("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
        http.response().status == 200
    });
    site.leave();
}

#[test]
fn answers_to_posts() {
    let mut site = Site::filled(&SMALL_INBOXES, nothing);
    let body = message("room", "a", &"x".repeat(900_000)).to_string();
    let bytes = request("POST", "/api/messages", &[], Some(&body)).repeat(2);
    site.press(CLIENTS, |_| bytes.clone());
    site.check_that_others_are_served();
    site.leave();
}

#[test]
fn control_messages() {
    let mut site = Site::filled(&SMALL_INBOXES, nothing);
    let pings = frame(true, PING, &[7; 125]).repeat(20_000);
    let bytes = ["/api/ws", "/ws", "/api/ws/room"].map(|target| open(target, &pings));
    site.press(CLIENTS, |number| bytes[number % 3].clone());
    site.check_that_others_are_served();
    site.leave();
}

#[test]
fn history() {
    let mut site = Site::filled(&SMALL_INBOXES, |http| {
        for number in 0..60 {
            let content = format!("{number} {}", "x".repeat(900_000));
            http.post("/api/messages", &message("room", "a", &content)).ok();
        }
    });
    // Each from a position of its own, as far as possible.
    let target = |number: usize| format!("/api/ws/room?last_event_id=message-{:05}", number % 60);
    site.press(CLIENTS, |number| upgrade(&target(number)));
    site.check_that_others_are_served();
    site.leave();
}

/// So many that together they make each response large.
fn rows(count: usize, name: impl Fn(usize) -> String) -> impl FnOnce(&Path) {
    move |database| {
        let mut database = rusqlite::Connection::open(database).expect("a database");
        let transaction = database.transaction().expect("a transaction");
        let insert = "INSERT INTO messages (channel_id, author, content, timestamp, lane, provider)
                      VALUES (?1, 'a', '', '2026-01-05T09:30:00.123456+00:00', ?1, ?1)";
        for number in 0..count {
            transaction.execute(insert, [name(number)]).expect("a row");
        }
        transaction.commit().expect("a commit");
    }
}

/// Requests something large repeatedly without reading it, and the same once as everybody else does.
fn expect_answers(mut site: Site, clients: usize, targets: &[&str], holds: impl Fn(&str) -> bool) {
    for target in targets {
        let bytes = request("GET", target, &[], None).repeat(3);
        site.press(clients, |_| bytes.clone());
    }
    site.check_that_others_are_served();
    for target in targets {
        let answer = Http::connect(site.addr()).get(target);
        assert!(answer.status == 200 && holds(answer.text()), "{target}: {} bytes", answer.text().len());
    }
    site.leave();
}

/// What answers about names hold: of a page, which may be short, the first ones, and else all.
fn expect_names(target: &str) {
    let name = |number| format!("{number:06}{}", "n".repeat(190));
    let site = Site::with_rows(&SMALL_INBOXES, rows(9_000, name));
    let holds = |text: &str| {
        let count = if text.contains("\"next\":") { 10 } else { 9_000 };
        let mut rest = text;
        (0..count).all(|number| {
            rest.split_once(&name(number)).is_some_and(|(_, behind)| {
                rest = behind;
                true
            })
        })
    };
    expect_answers(site, CLIENTS, &[target], holds);
}

#[test]
fn names_of_channels() {
    expect_names("/api/channels");
}

#[test]
fn details_of_channels() {
    expect_names("/api/channels?detail=1");
}

#[test]
fn the_summary() {
    expect_names("/api/summary");
}

#[test]
fn names_without_a_limit_of_an_old_file() {
    let name = |number| format!("{number:06}{}", "n".repeat(900_000));
    let site = Site::with_rows(&SMALL_INBOXES, rows(20, name));
    expect_answers(site, CLIENTS / 5, &["/api/summary"], |text| text.len() > 2 * 20 * 900_000);
}

#[test]
fn lists() {
    let site = Site::filled(&SMALL_INBOXES, |http| {
        for number in 0..150 {
            let content = format!("{number} {}", "x".repeat(20_000));
            http.post("/api/messages", &message("room", "a", &content)).ok();
            http.post("/api/events", &json!({"type": "t", "payload": {"content": content}})).ok();
        }
    });
    let targets = ["/api/messages?channel_id=room", "/api/events"];
    expect_answers(site, CLIENTS / 3, &targets, |text| text.len() > 150 * 20_000);
}

fn expect_of_itself(targets: &[&str]) {
    let site = Site::filled(&SMALL_INBOXES, nothing);
    expect_answers(site, CLIENTS, targets, |text| text.len() > 1_000);
}

#[test]
fn connections() {
    expect_of_itself(&["/api/connections?limit=1000"]);
}

#[test]
fn metrics() {
    expect_of_itself(&["/metrics"]);
}

#[test]
fn verbose_health() {
    expect_of_itself(&["/api/health?verbose=1"]);
}

#[test]
fn the_schema() {
    expect_of_itself(&["/api/schema"]);
}

#[test]
fn pages() {
    expect_of_itself(&["/", "/polecat.js", "/console/console.css", "/console/channels.js"]);
}

#[test]
fn a_thousand_short_lists_at_once() {
    let mut site = Site::filled(&[], |http| {
        for number in 0..5 {
            http.post("/api/messages", &message("room", "a", &number.to_string())).ok();
        }
    });
    let list = request("GET", "/api/messages?limit=1", &[], None);
    for is_crowded in [false, true] {
        let mut clients = (0..1_000).map(|_| Http::connect(site.addr())).collect::<Vec<_>>();
        clients.iter_mut().for_each(|client| client.send(&list));
        for client in &mut clients {
            let listed = client.response().ok();
            assert_eq!(listed["messages"].as_array().map(Vec::len), Some(1), "{is_crowded}");
        }
        drop(clients);
        // The same while others hold all the room that there is.
        let bytes = open("/api/ws", &frame(true, BINARY, &[7; MIB]));
        site.press(if is_crowded { 0 } else { 20 }, |_| bytes.clone());
    }
}

/// Each asks for many channels, and takes none of the answers.
#[test]
fn requests_to_subscribe() {
    let mut site = Site::filled(&SMALL_INBOXES, nothing);
    let fields = "Host: polecat.test\r\nSec-WebSocket-Protocol: polecat.v1\r\n";
    let offer = upgrade_with("/api/stream", fields);
    site.press(CLIENTS / 3, |number| {
        let names = (0..400).map(|channel| format!("{number} {channel} {}", "n".repeat(150)));
        let request = json!({"type": "subscribe", "channels": names.collect::<Vec<_>>()}).to_string();
        let names = vec!["n".repeat(150); 400];
        let leave = json!({"type": "unsubscribe", "channels": names}).to_string();
        let leave = frame(true, TEXT, leave.as_bytes()).repeat(20);
        [&offer[..], &frame(true, TEXT, request.as_bytes()), &leave].concat()
    });
    let health = Http::connect(site.addr()).get("/api/health?verbose=1").ok();
    assert_eq!(health["connections"]["stream"], json!(CLIENTS / 3), "{health}");
    site.check_that_others_are_served();
    site.leave();
}

#[test]
fn broadcasts() {
    let mut site = Site::filled(&["--max-logs-bytes", "1048576", "--max-inbox-bytes", "4194304"], nothing);
    for number in 0..40 {
        site.hogs.extend((0..2).map(|_| Hog::connect(site.process.addr(), upgrade("/api/ws/room"))));
        site.push_all();
        let content = format!("{number} {}", "x".repeat(900_000));
        site.witness.post("/api/messages", &message("room", "a", &content)).ok();
    }
    site.check_memory();
    site.check_that_others_are_served();
    site.leave();
}

#[test]
fn a_holder_that_takes_nothing_while_others_wait_is_told_why_it_is_closed() {
    const LARGE: usize = 8 * MIB;
    let large = LARGE.to_string();
    let flags = ["--request-timeout", "0.3", "--heartbeat-interval", "3600", "--max-message-bytes", &large];
    let mut site = Site::filled(&flags, nothing);
    let mut holder = Hog::connect(site.addr(), open("/api/ws", &frame(true, BINARY, &[7; LARGE])));
    wait_until("the holder holds all that there is", || {
        holder.push();
        site.health()["memory"]["outboxes_bytes"].as_u64() >= Some(UNSENT_BYTES)
    });
    // Nobody waits, so it may take its time; this client waits.
    let mut waiting = RawSocket::connect(site.addr(), "/api/ws");
    waiting.send_frame(true, BINARY, &[8; MIB]);
    wait_until("the holder is closed", || site.health()["closed"]["unsent"] != json!(0));
    // It gets the rest of a frame that it has a part of, and then the reason.
    let mut said = Vec::new();
    holder.into_stream().read_to_end(&mut said).expect("the end");
    let head = said.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let (echo, len) = parse(&said[head..]).expect("a whole frame");
    assert_eq!((echo.opcode, echo.payload.len()), (BINARY, LARGE));
    let (close, _) = parse(&said[head + len..]).expect("another");
    assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, &1013_u16.to_be_bytes()[..]));
    assert_eq!(&close.payload[2..], b"too much is unsent");
    assert_eq!(waiting.next_message().payload, vec![8; MIB]);
    assert!(site.health()["limits"]["unsent_bytes"].as_u64() > Some(0));
}

#[test]
fn a_crowd_that_takes_nothing_does_not_stop_who_reads() {
    // The client that reads is never away for so long.
    let mut site = Site::filled(&["--request-timeout", "1.5", "--heartbeat-interval", "3600"], nothing);
    let large = frame(true, BINARY, &[7; MIB]).repeat(2);
    site.press(20, |_| open("/api/ws", &large));
    let mut reader = RawSocket::connect(site.addr(), "/api/ws");
    for number in 0..3_u8 {
        reader.send_frame(true, BINARY, &vec![number; MIB]);
        assert_eq!(reader.next_message().payload, vec![number; MIB]);
    }
    site.leave();
}
