//! Each limit of PROTOCOL.md, "13.3 Limits" and "13.4 Times", has a counter of its own: reaching a limit is
//! counted under its name, and under no other.

use std::io::Write;

use polecat::base::limit::Limit;
use polecat::server::metrics::Metrics;
use polecat::shell::options::Options;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::raw::{CLOSE, TEXT, frame, upgrade};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, RawSocket, Server, Socket, post};

/// Lets `act` reach a limit of a server, and checks that only this limit was counted, `count` times.
fn expect_hits(limit: Limit, count: u64, tweak: impl FnOnce(&mut Options), act: impl FnOnce(&Server)) {
    let metrics = metrics_after(tweak, act);
    let hits: Vec<_> = metrics.limits.iter().collect();
    assert_eq!(hits, [(limit, count)]);
}

fn metrics_after(tweak: impl FnOnce(&mut Options), act: impl FnOnce(&Server)) -> Metrics {
    let server = Server::start_with(tweak);
    act(&server);
    server.stop()
}

fn answer(server: &Server, request: impl AsRef<[u8]>) -> u16 {
    let mut http = Http::connect(server.addr());
    http.send_what_is_taken(request);
    http.response().status
}

fn get_with(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn who_comes_in() {
    let one_connection = |options: &mut Options| options.config.limits.connections_max = 1;
    let turned_away = |server: &Server| {
        let _first = Socket::connect(server.addr(), "/ws");
        assert_eq!(Http::connect(server.addr()).response().status, 503);
    };
    expect_hits(Limit::Connections, 1, one_connection, turned_away);
    let one_of_an_address = |options: &mut Options| options.config.limits.connections_per_source_max = 1;
    expect_hits(Limit::ConnectionsPerAddress, 1, one_of_an_address, turned_away);
    let no_memory = |options: &mut Options| options.config.limits.resident_bytes_max = 1;
    expect_hits(Limit::Memory, 1, no_memory, turned_away);
    expect_hits(
        Limit::Channels,
        2,
        |options| options.config.limits.channels_max = 1,
        |server| {
            let _one = Socket::connect(server.addr(), "/api/ws/one");
            for _ in 0..2 {
                assert_eq!(answer(server, upgrade("/api/ws/two")), 503);
            }
        },
    );
}

#[test]
fn what_is_sent() {
    let two_a_second = |options: &mut Options| options.config.limits.messages_per_second_max = 2;
    expect_hits(Limit::MessagesPerSecond, 2, two_a_second, |server| {
        let mut client = RawSocket::connect(server.addr(), "/api/ws");
        client.send(&frame(true, TEXT, b"x").repeat(3));
        assert_eq!(client.expect_close(), 1008);
        let mut http = Http::connect(server.addr());
        let body = message("c", "a", "x").to_string();
        http.send(request("POST", "/api/messages", &[], Some(&body)).repeat(3));
        assert_eq!([http.response().status, http.response().status, http.response().status], [200, 200, 429]);
    });
    let small = |options: &mut Options| {
        options.config.limits.message_bytes_max = 100;
        options.config.limits.body_bytes_max = 100;
        options.config.limits.chunk_extra_bytes_max = 20;
        options.config.limits.channel_name_bytes_max = 10;
        options.config.limits.label_bytes_max = 12;
    };
    expect_hits(Limit::MessageBytes, 1, small, |server| {
        let mut client = RawSocket::connect(server.addr(), "/api/ws");
        client.send_frame(true, TEXT, &[b'x'; 101]);
        assert_eq!(client.expect_close(), 1009);
    });
    let chunked = "POST /api/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    expect_hits(Limit::BodyBytes, 2, small, |server| {
        assert_eq!(post(server.addr(), "/api/messages", &json!({"content": "x".repeat(100)})).status, 413);
        assert_eq!(answer(server, format!("{chunked}65\r\n")), 413);
    });
    expect_hits(Limit::ChunkExtraBytes, 2, small, |server| {
        assert_eq!(answer(server, format!("{chunked}1;{}\r\n", "x".repeat(40))), 413);
        assert_eq!(answer(server, format!("{chunked}0\r\nA: {}\r\n\r\n", "x".repeat(40))), 431);
    });
    expect_hits(Limit::ChannelNameBytes, 3, small, |server| {
        assert_eq!(answer(server, upgrade("/api/ws/0123456789a")), 400);
        assert_eq!(post(server.addr(), "/api/messages", &message("0123456789a", "a", "x")).status, 422);
        assert_eq!(post(server.addr(), "/api/events", &json!({"type": "0123456789a"})).status, 422);
        // Not because of its length.
        assert_eq!(post(server.addr(), "/api/messages", &message("", "a", "x")).status, 422);
    });
    expect_hits(Limit::LabelBytes, 5, small, |server| {
        let mut room = Socket::connect(server.addr(), "/api/ws/room");
        let mut v1 = Socket::connect_v1(server.addr(), "/api/ws/room");
        for (label, is_long) in [("0123456789ab", false), ("0123456789abc", true)] {
            let status = if is_long { 422 } else { 200 };
            for field in ["lane", "provider"] {
                let body = json!({"channel_id": "c", "author": "a", "content": "", field: label});
                assert_eq!(post(server.addr(), "/api/messages", &body).status, status, "{field}");
            }
            let body = json!({"type": "t", "correlation_id": label});
            assert_eq!(post(server.addr(), "/api/events", &body).status, status);
            v1.send_json(&json!({"type": "message", "lane": label, "id": 1}));
            while v1.next()["type"] != if is_long { "error" } else { "ack" } {}
            // Silently, like all invalid messages.
            room.send_json(&json!({"type": "message", "provider": label, "content": label}));
        }
        room.send_json(&json!({"type": "message", "content": "last"}));
        assert_eq!(room.next_contents(3), ["", "0123456789ab", "last"]);
    });
}

#[test]
fn subscriptions() {
    let few = |options: &mut Options| {
        options.config.limits.channels_per_connection_max = 2;
        options.config.limits.subscriptions_max = 3;
        options.config.limits.subscribe_bytes_max = 100;
    };
    let subscribe = |server: &Server, requests: &[Value]| {
        let mut client = Socket::connect_v1(server.addr(), "/api/stream?channel=a");
        for kind in ["hello", "subscribed", "live"] {
            client.next_of_type(kind);
        }
        for request in requests {
            client.send_json(request);
            while !["subscribed", "error"].contains(&client.next()["type"].as_str().unwrap_or_default()) {}
        }
        client
    };
    expect_hits(Limit::ChannelsPerConnection, 2, few, |server| {
        let request = json!({"type": "subscribe", "channels": ["b", "c"], "events": true});
        subscribe(server, &[request]);
    });
    expect_hits(Limit::Subscriptions, 1, few, |server| {
        let request = json!({"type": "subscribe", "channels": ["b"]});
        let _first = subscribe(server, std::slice::from_ref(&request));
        subscribe(server, &[request]);
    });
    expect_hits(Limit::SubscribeBytes, 2, few, |server| {
        let request = |kind: &str| json!({"type": kind, "channels": ["b".repeat(100)]});
        subscribe(server, &[request("subscribe"), request("unsubscribe")]);
    });
}

#[test]
fn heads() {
    let small = |options: &mut Options| {
        options.config.limits.head_bytes_max = 300;
        options.config.limits.head_fields_max = 5;
        options.config.limits.target_bytes_max = 50;
    };
    expect_hits(Limit::HeaderBytes, 1, small, |server| {
        assert_eq!(answer(server, get_with("/", &format!("X: {}\r\n", "x".repeat(300)))), 431);
    });
    expect_hits(Limit::HeaderFields, 1, small, |server| {
        assert_eq!(answer(server, get_with("/", &"X: y\r\n".repeat(5))), 431);
    });
    expect_hits(Limit::TargetBytes, 1, small, |server| {
        assert_eq!(answer(server, get_with(&format!("/{}", "x".repeat(50)), "")), 414);
    });
}

#[test]
fn what_is_held() {
    let posts = |content: &str| {
        let body = message("c", "a", content).to_string();
        request("POST", "/api/messages", &[], Some(&body)).repeat(4)
    };
    let expect_stored = |server: &Server| {
        let mut http = Http::connect(server.addr());
        http.send(posts("x"));
        assert_eq!(
            [http.response().status, http.response().status, http.response().status, http.response().status],
            [200; 4]
        );
    };
    // All four come in one segment; after the second and the fourth, reading stops.
    let two_at_once = |options: &mut Options| options.config.limits.pending_requests_max = 1;
    expect_hits(Limit::PendingRequests, 2, two_at_once, expect_stored);
    // Each but the first waits until the one before it is stored.
    let a_byte_at_once = |options: &mut Options| options.config.limits.engine_backlog_bytes_max = 1;
    expect_hits(Limit::EngineBacklogBytes, 3, a_byte_at_once, expect_stored);
    let broadcast = |server: &Server| {
        let mut subscriber = Socket::connect(server.addr(), "/api/ws/c");
        expect_stored(server);
        assert_eq!(subscriber.next_contents(4), ["x"; 4]);
    };
    expect_hits(Limit::LogBytes, 3, |options| options.config.limits.log_bytes_max = 1, broadcast);
    expect_hits(Limit::LogsBytes, 4, |options| options.config.limits.logs_bytes_max = 1, broadcast);
    expect_hits(
        Limit::InboxBytes,
        2,
        |options| options.config.limits.inboxes_bytes_max = 10_000,
        |server| {
            let mut client = RawSocket::connect(server.addr(), "/api/ws");
            client.send(&frame(true, TEXT, &[b'x'; 20_000])[..12_000]);
            assert_eq!(client.expect_close(), 1013);
            let mut http = Http::connect(server.addr());
            let head = "POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n";
            http.send(format!("{head}{}", "x".repeat(12_000)));
            assert_eq!(http.response().status, 503);
        },
    );
}

#[test]
fn what_waits_for_room() {
    const LARGE: usize = 8 << 20;
    let metrics = metrics_after(
        |options| {
            options.config.limits.outboxes_bytes_max = 1;
            options.config.limits.message_bytes_max = LARGE;
        },
        |server| {
            // More than the sockets' buffers hold comes back, and the client takes none of it.
            let mut holder = RawSocket::connect(server.addr(), "/api/ws");
            holder.send(&frame(true, TEXT, &vec![b'x'; LARGE]));
            let mut http = Http::connect(server.addr());
            let held =
                |http: &mut Http| http.get("/api/health?verbose=1").ok()["memory"]["outboxes_bytes"].as_u64();
            while held(&mut http) < Some(1 << 20) {}
            let body = message("c", "a", &"x".repeat(20_000)).to_string();
            http.send(request("POST", "/api/messages", &[], Some(&body)));
            Http::connect(server.addr()).expect_open();
            drop(holder);
            http.response().ok();
        },
    );
    assert!(metrics.limits.of(Limit::UnsentBytes) > 0);
}

#[test]
fn what_is_not_read() {
    const ECHOES: usize = 400;
    let metrics = metrics_after(
        |options| options.config.limits.outbox_bytes_max = 1,
        |server| {
            // More than the sockets' buffers hold comes back; while that is unread, nothing more is read.
            let mut client = RawSocket::connect(server.addr(), "/api/ws");
            let one = frame(true, TEXT, &[b'x'; 60_000]);
            let mut sending = client.stream().try_clone().expect("a clone");
            let sender = std::thread::spawn(move || {
                for _ in 0..ECHOES {
                    sending.write_all(&one).expect("taken in the end");
                }
            });
            let mut http = Http::connect(server.addr());
            for _ in 0..ECHOES {
                http.expect_open();
                assert_eq!(client.next_message().payload.len(), 60_000);
            }
            sender.join().expect("all is sent");
        },
    );
    assert!(metrics.limits.of(Limit::OutboxBytes) > 0);
}

/// Only one of the times is short, so that a slow client reaches that one.
#[test]
fn times() {
    let handshake = |options: &mut Options| options.config.timeouts.handshake_ms = 50;
    expect_hits(Limit::HandshakeTime, 1, handshake, |server| {
        // It gets a response if its first bytes were in time.
        let mut http = Http::connect(server.addr());
        http.send_what_is_taken("GET /");
        http.wait_for_the_end();
    });
    let idle = |options: &mut Options| options.config.timeouts.keep_alive_ms = 50;
    expect_hits(Limit::IdleTime, 1, idle, |server| {
        let mut http = Http::connect(server.addr());
        http.expect_open();
        http.expect_end();
    });
    let request = |options: &mut Options| options.config.timeouts.request_ms = 50;
    expect_hits(Limit::RequestTime, 1, request, |server| {
        let mut http = Http::connect(server.addr());
        http.expect_open();
        http.send("GET /");
        assert_eq!(http.response().status, 408);
    });
    let heartbeat = |options: &mut Options| options.config.timeouts.heartbeat_interval_ms = 50;
    expect_hits(Limit::HeartbeatTime, 1, heartbeat, |server| {
        let mut client = RawSocket::connect(server.addr(), "/ws");
        while client.next_frame().is_some_and(|frame| frame.opcode != CLOSE) {}
    });
    let close = |options: &mut Options| options.config.timeouts.close_ms = 50;
    expect_hits(Limit::CloseTime, 1, close, |server| {
        // It gets 4400, and neither answers nor ends its half.
        let mut client = RawSocket::connect(server.addr(), "/ws?subscribe_token=x");
        while client.next_frame().is_some() {}
    });
}

#[test]
fn every_limit_is_run_into_by_a_test() {
    let here = include_str!("counters.rs").split_whitespace().collect::<String>();
    let descriptors = include_str!("../stalls/descriptors.rs");
    for limit in Limit::ALL {
        let is_shown = match *limit {
            // How often it is reached depends on the system.
            Limit::OutboxBytes | Limit::UnsentBytes => {
                here.contains(&format!("metrics.limits.of(Limit::{limit:?})>0"))
            }
            Limit::Descriptors => descriptors.contains("limit descriptors reached: "),
            limit => here.contains(&format!("expect_hits(Limit::{limit:?},")),
        };
        assert!(is_shown, "no test runs into {limit:?}");
    }
}

#[test]
fn sigusr1_tells_them_at_once_and_the_server_goes_on() {
    let home = Home::new();
    let mut process = Process::serve(&home.database(), &["--max-connections", "1", "--log-level", "off"]);
    let mut first = Http::connect(process.addr());
    for turned_away in 1..=2 {
        first.post("/api/messages", &message("c", "a", "x")).ok();
        assert_eq!(Http::connect(process.addr()).response().status, 503);
        process.signal(Signal::USR1);
        let counters = process.next_line("polecat: counters: ");
        let (accepted, committed) = (turned_away + 1, turned_away);
        for counter in [format!(" accepted {accepted},"), format!(" committed {committed},")] {
            assert!(counters.contains(&counter), "{counter} {counters}");
        }
        let closed = process.next_line("polecat: closed for not_admitted: ");
        assert!(closed.ends_with(&format!(": {turned_away}")), "{closed}");
        let limit = process.next_line("polecat: limit connections reached: ");
        assert!(limit.ends_with(&format!(": {turned_away}")), "{limit}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
}

#[test]
fn they_are_logged_at_the_end() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    RawSocket::connect(process.addr(), "/ws?subscribe_token=x").expect_close();
    process.signal(Signal::TERM);
    let said = process.wait().stderr;
    for part in ["counters: accepted 1, upgrades 1", "closed for subscribe_token: 1"] {
        assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
    }
}
