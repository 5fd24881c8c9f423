//! Publishers that continue over the death of the server: PROTOCOL.md, "8. Guarantees".

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::support::Socket;
use crate::support::http::{Http, Response, is_gone, request};

use super::site::{Sequence, Site, number};

/// This many requests are sent before the first response is awaited.
const WINDOW: usize = 8;

/// Many POSTs in one segment. With keys, unanswered ones are sent again and so are stored once; without keys,
/// they may or may not be stored.
pub(crate) fn post(site: &Site, name: &str, sequence: Sequence, has_keys: bool) -> u64 {
    let (mut next, mut generation) = (0, 0);
    let mut unanswered = VecDeque::new();
    'connections: loop {
        let (addr, current) = site.next(generation);
        generation = current;
        let Ok(mut http) = Http::try_connect(addr) else {
            site.note_break(generation, name);
            continue;
        };
        loop {
            if unanswered.is_empty() {
                if site.is_closing() {
                    return next;
                }
                unanswered.extend(next..next + WINDOW as u64);
                next += WINDOW as u64;
            }
            let requests =
                unanswered.iter().flat_map(|number| post_request(name, *number, sequence, has_keys));
            http.send_what_is_taken(requests.collect::<Vec<_>>());
            while let Some(number) = unanswered.front().copied() {
                match http.try_response(false) {
                    Ok(response) => {
                        let id = id_of(&response, sequence);
                        site.note_acknowledged(sequence, id, name, number);
                        unanswered.pop_front();
                    }
                    Err(error) => {
                        assert!(is_gone(&error), "{name} was to be answered: {error}");
                        site.note_break(generation, name);
                        if !has_keys {
                            unanswered.clear();
                        }
                        continue 'connections;
                    }
                }
            }
        }
    }
}

fn post_request(name: &str, number: u64, sequence: Sequence, has_keys: bool) -> Vec<u8> {
    let key = format!("{name} {number}");
    let fields = [("Idempotency-Key", &*key)];
    let fields = if has_keys { &fields[..] } else { &[] };
    let (target, body) = match sequence {
        Sequence::Messages => {
            ("/api/messages", json!({"channel_id": "room", "author": name, "content": number.to_string()}))
        }
        Sequence::Events => ("/api/events", json!({"type": name, "payload": {"number": number}})),
    };
    request("POST", target, fields, Some(&body.to_string()))
}

fn id_of(response: &Response, sequence: Sequence) -> u64 {
    let stored = response.ok();
    match sequence {
        Sequence::Messages => stored["message"]["id"].as_u64().expect("an id"),
        Sequence::Events => number(stored["event"]["event_id"].as_str().expect("an id")),
    }
}

/// `polecat.v1`, with ids and keys: unacknowledged messages are sent again.
pub(crate) fn publish_with_keys(site: &Site, name: &str) -> u64 {
    let (mut next, mut generation) = (0, 0);
    let mut unanswered = VecDeque::new();
    'connections: loop {
        let (addr, current) = site.next(generation);
        generation = current;
        let headers = [("Sec-WebSocket-Protocol", "polecat.v1")];
        let Ok(mut socket) = Socket::try_connect(addr, "/api/ws/room", &headers) else {
            site.note_break(generation, name);
            continue;
        };
        let mut unsent = unanswered.clone();
        loop {
            while unsent.is_empty() && unanswered.len() < WINDOW && !site.is_closing() {
                unanswered.push_back(next);
                unsent.push_back(next);
                next += 1;
            }
            if unanswered.is_empty() {
                return next;
            }
            let mut is_broken = false;
            while let Some(number) = unsent.pop_front() {
                let message = json!({"type": "message", "id": number, "idempotency_key": format!("{name} {number}"),
                    "author": name, "content": number.to_string()});
                is_broken |= socket.try_send_json(&message).is_err();
            }
            let Some(message) = next_json(&mut socket).filter(|_| !is_broken) else {
                site.note_break(generation, name);
                continue 'connections;
            };
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == "ack" {
                let id = number(message["payload"]["event_id"].as_str().expect("an id"));
                let expected = unanswered.pop_front().expect("something is not acknowledged");
                assert_eq!(message["payload"]["id"], expected, "in their order");
                site.note_acknowledged(Sequence::Messages, id, name, expected);
            }
        }
    }
}

/// A base client: its own broadcast is the acknowledgement; a message without one may or may not be stored.
pub(crate) fn publish(site: &Site, name: &str) -> u64 {
    let (mut next, mut generation) = (0, 0);
    'connections: loop {
        let (addr, current) = site.next(generation);
        generation = current;
        let Ok(mut socket) = Socket::try_connect(addr, "/api/ws/room", &[]) else {
            site.note_break(generation, name);
            continue;
        };
        let mut unanswered = VecDeque::new();
        loop {
            if unanswered.is_empty() && site.is_closing() {
                return next;
            }
            while unanswered.len() < WINDOW && !site.is_closing() {
                let message = json!({"type": "message", "author": name, "content": next.to_string()});
                // If it has failed, so will the next read.
                socket.try_send_json(&message).ok();
                unanswered.push_back(next);
                next += 1;
            }
            let Some(message) = next_json(&mut socket) else {
                site.note_break(generation, name);
                continue 'connections;
            };
            let data = &message["data"];
            if data["author"] == name {
                let expected = unanswered.pop_front().expect("something has no broadcast yet");
                assert_eq!(data["content"], expected.to_string(), "in their order");
                let id = data["id"].as_u64().expect("an id");
                site.note_acknowledged(Sequence::Messages, id, name, expected);
            }
        }
    }
}

/// The next text message; `None` if the connection has ended.
pub(crate) fn next_json(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.try_read() {
            Ok(tungstenite::Message::Text(text)) => {
                return Some(serde_json::from_str(&text).expect("JSON"));
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
