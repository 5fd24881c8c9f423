//! A client with many channels on one socket, written from PROTOCOL 16. It subscribes and leaves at any time, resumes all
//! with one cursor, and checks each channel by itself and what the cursor claims.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use polecat::wire::protocol::Sequence;
use polecat::wire::stream::Cursor;
use serde_json::{Value, json};

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::model::{EVENTS, Ledger, Run, parse_id, prefix};
use crate::wire::{CLOSE, GOODBYE, PING, PONG, TEXT, close_parts, close_payload, is_of_server, upgrade_v1};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Hello,
    Open,
    Closing,
    Closed(u16),
}

/// What it has of a channel on this connection.
#[derive(Debug)]
struct Subscription {
    run: Run,
    is_live: bool,
    /// What the gap must say that comes first: the id that was asked for, and the last that means the same to both.
    gap_due: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Request {
    Subscribe {
        streams: BTreeSet<String>,
        cursor: Option<Cursor>,
        is_long: bool,
        /// Whether the server must have seen it.
        is_known: bool,
    },
    Unsubscribe {
        streams: BTreeSet<String>,
    },
    Publish {
        key: String,
    },
}

pub(crate) struct Streamer {
    name: String,
    /// All channels that there are, and events.
    all: Vec<String>,
    /// Those that it wants.
    wanted: BTreeSet<String>,
    stage: Stage,
    era: usize,
    epoch: String,
    subscriptions: BTreeMap<String, Subscription>,
    requests: VecDeque<(u64, Request)>,
    cursor: Option<String>,
    count: u64,
    pongs_due: u32,
    is_turned_away: bool,
    is_asked_to_reconnect: bool,
}

const fn sequence(stream: &str) -> Sequence {
    if stream.is_empty() { Sequence::Events } else { Sequence::Messages }
}

fn stream_of(value: &Value) -> String {
    value.as_str().unwrap_or(EVENTS).to_owned()
}

impl Streamer {
    pub(crate) fn new(name: &str, channels: &[String], random: &mut fastrand::Rng) -> Self {
        let all = channels.iter().cloned().chain([EVENTS.to_owned()]).collect::<Vec<_>>();
        let wanted = all.iter().filter(|_| random.bool()).cloned().collect();
        Self {
            name: name.to_owned(),
            all,
            wanted,
            stage: Stage::Handshake,
            era: 0,
            epoch: String::new(),
            subscriptions: BTreeMap::new(),
            requests: VecDeque::new(),
            cursor: None,
            count: 0,
            pongs_due: 0,
            is_turned_away: false,
            is_asked_to_reconnect: false,
        }
    }

    fn request(&mut self, link: &mut Link, context: &mut Context<'_>, mut text: Value, request: Request) {
        self.count += 1;
        text["id"] = json!(self.count);
        link.say_frame(context.random, TEXT, text.to_string().as_bytes());
        self.requests.push_back((self.count, request));
    }

    fn subscribe(
        &mut self,
        link: &mut Link,
        context: &mut Context<'_>,
        streams: BTreeSet<String>,
        resumes: bool,
    ) {
        let channels = streams.iter().filter(|stream| *stream != EVENTS).collect::<Vec<_>>();
        let cursor = self.cursor.clone().filter(|_| resumes);
        let mut text = json!({"type": "subscribe", "channels": channels, "events": streams.contains(EVENTS)});
        if let Some(cursor) = &cursor {
            text["cursor"] = json!(cursor);
        }
        let is_long = context.random.u32(..10) == 0;
        if is_long {
            text["more"] = json!("x".repeat(context.options.config.limits.subscribe_bytes_max.min(300)));
        }
        let cursor = cursor.as_deref().and_then(Cursor::parse);
        self.request(link, context, text, Request::Subscribe { streams, cursor, is_long, is_known: false });
    }

    /// Subscribes to something, leaves something, or publishes.
    fn speak(&mut self, link: &mut Link, context: &mut Context<'_>) {
        let stream = self.all[context.random.usize(..self.all.len())].clone();
        match context.random.u32(..6) {
            0 if self.wanted.insert(stream.clone()) => {
                let resumes = context.random.bool();
                self.subscribe(link, context, BTreeSet::from([stream]), resumes);
            }
            1 if self.wanted.remove(&stream) => {
                let channels = if stream == EVENTS { json!([]) } else { json!([stream]) };
                let text = json!({"type": "unsubscribe", "channels": channels, "events": stream == EVENTS});
                let streams = BTreeSet::from([stream]);
                self.request(link, context, text, Request::Unsubscribe { streams });
            }
            2.. if stream != EVENTS => {
                let key = format!("{}-{}", self.name, self.count + 1);
                let content = format!("{key} {}", context.padding());
                let text = json!({
                    "type": "message", "channel_id": stream, "author": self.name, "content": content,
                    "idempotency_key": key,
                });
                self.request(link, context, text, Request::Publish { key });
            }
            _ => {}
        }
    }

    fn hear_frame(&mut self, opcode: u8, payload: &[u8], link: &mut Link, context: &mut Context<'_>) {
        assert!(!matches!(self.stage, Stage::Closed(_)), "{}: nothing comes after a Close", self.name);
        match opcode {
            TEXT => self.hear_text(std::str::from_utf8(payload).expect("text is UTF-8"), link, context),
            PING => {
                link.is_asked = true;
                if self.stage != Stage::Closing {
                    link.say_frame(context.random, PONG, payload);
                }
            }
            PONG => {
                assert!(self.pongs_due > 0, "{}: a pong for no ping", self.name);
                self.pongs_due -= 1;
            }
            CLOSE => {
                let (code, reason) = close_parts(payload);
                let may_come = (code == GOODBYE && self.stage == Stage::Closing)
                    || context.may_close(code, &reason, link);
                assert!(may_come, "{}: Close {code} {reason}", self.name);
                let is_asked = self.is_asked_to_reconnect || self.stage == Stage::Closing;
                assert!(code != 1001 || is_asked, "{}: nobody asked it to reconnect", self.name);
                if self.stage != Stage::Closing {
                    link.say_frame(context.random, CLOSE, &payload[..2]);
                }
                self.stage = Stage::Closed(code);
            }
            other => panic!("{}: opcode {other}", self.name),
        }
    }

    fn hear_text(&mut self, text: &str, link: &Link, context: &mut Context<'_>) {
        let message: Value = serde_json::from_str(text).expect("a message is JSON");
        let ledger = &mut *context.ledger.borrow_mut();
        if !is_of_server(text) {
            let stream = message["data"]["channel_id"].as_str().unwrap_or(EVENTS);
            let subscription = self.subscriptions.get_mut(stream);
            let one =
                subscription.unwrap_or_else(|| panic!("{}: it does not subscribe to {text}", self.name));
            assert_eq!(one.gap_due, None, "{}: a gap comes first", self.name);
            return one.run.take(ledger, text);
        }
        let payload = &message["payload"];
        match message["type"].as_str().expect("a type") {
            "hello" => {
                assert_eq!(self.stage, Stage::Hello, "{}: one hello", self.name);
                self.stage = Stage::Open;
                self.era = link.wire.borrow().host().era.get();
                self.epoch.clone_from(&link.wire.borrow().host().epoch.borrow());
                assert_eq!(payload["epoch"], self.epoch);
            }
            "subscribed" => self.hear_subscribed(payload, ledger),
            "unsubscribed" => {
                let Some((_, Request::Unsubscribe { streams })) = self.take_request(&payload["id"]) else {
                    panic!("{}: {text}", self.name)
                };
                for stream in streams {
                    let was_there = self.subscriptions.remove(&stream).is_some();
                    let left =
                        payload["channels"].as_array().is_some_and(|list| list.contains(&json!(stream)))
                            || (stream == EVENTS && payload["events"] == true);
                    assert_eq!(left, was_there, "{}: {text}", self.name);
                }
            }
            "gap" => self.hear_gap(payload, ledger),
            "live" => {
                let channels = payload["channels"].as_array().expect("a list").iter().map(stream_of);
                let events = (payload["events"] == true).then(|| EVENTS.to_owned());
                for stream in channels.chain(events) {
                    let one = self.subscriptions.get_mut(&stream).expect("it subscribes to it");
                    assert!(!one.is_live && one.gap_due.is_none(), "{}: live twice, or too soon", self.name);
                    one.is_live = true;
                }
            }
            "ack" => {
                let Some((id, Request::Publish { key })) = self.take_request(&payload["id"]) else {
                    panic!("{}: {text}", self.name)
                };
                assert_eq!(payload["id"], id);
                ledger.acknowledge(self.era, &key, parse_id("c", &payload["event_id"]));
            }
            "error" => self.hear_error(payload, ledger),
            "reconnect" => self.is_asked_to_reconnect = true,
            "heartbeat" | "health_status" => {}
            other => panic!("{}: {other}", self.name),
        }
        if let Some(cursor) = message["cursor"].as_str() {
            self.hear_cursor(cursor, ledger);
        }
    }

    /// Answers to messages come when they are stored, and may be overtaken by answers to other requests.
    fn take_request(&mut self, id: &Value) -> Option<(u64, Request)> {
        let place = self.requests.iter().position(|(one, _)| json!(one) == *id)?;
        self.requests.remove(place)
    }

    fn hear_error(&mut self, payload: &Value, ledger: &Ledger) {
        let request = self.take_request(&payload["id"]);
        match (payload["code"].as_str(), request) {
            (Some("store_unavailable"), Some((_, Request::Publish { .. }))) => {
                assert!(ledger.refused > 0, "{}: nothing was refused", self.name);
            }
            (Some("too_long"), Some((_, Request::Subscribe { streams, .. }))) => {
                self.wanted.retain(|stream| !streams.contains(stream));
            }
            (Some("too_long"), Some((_, Request::Unsubscribe { streams }))) => self.wanted.extend(streams),
            other => panic!("{}: {payload} for {other:?}", self.name),
        }
    }

    fn hear_subscribed(&mut self, payload: &Value, ledger: &Ledger) {
        let is_subscribe = |(_, request): &(u64, Request)| matches!(request, Request::Subscribe { .. });
        let place = self.requests.iter().position(is_subscribe).expect("it has asked");
        let Request::Subscribe { cursor, streams, is_long, .. } = &self.requests[place].1 else {
            unreachable!()
        };
        assert!(!is_long || payload["id"].is_number(), "{}: {payload}", self.name);
        let events = (!payload["events"].is_null()).then(|| (EVENTS.to_owned(), &payload["events"]["from"]));
        let channels = payload["channels"].as_array().expect("a list").iter();
        for (stream, from) in channels.map(|one| (stream_of(&one["channel"]), &one["from"])).chain(events) {
            assert!(streams.contains(&stream), "{}: nobody asked for {stream:?}", self.name);
            let from = parse_id(&stream, from);
            let newest = ledger.newest(self.era, &stream);
            assert!(from <= newest, "{}: it begins at {from} of {newest}", self.name);
            let gap_due = cursor.as_ref().and_then(|cursor| {
                let id = cursor.id(sequence(&stream));
                let agreed = id.min(ledger.agreed(self.era, &cursor.epoch, &stream).unwrap_or(0));
                // What the server knew as the newest may have been less.
                let agreed = agreed.min(from.max(agreed.min(newest)));
                let kept = from < ledger.oldest(self.era, &stream) || from == agreed;
                assert!(from >= agreed.min(from) && kept, "{}: {cursor} begins at {from}", self.name);
                (from != id || agreed != id).then_some((id, agreed))
            });
            let run = Run::told(ledger, self.era, &stream, from);
            let old = self.subscriptions.insert(stream, Subscription { run, is_live: false, gap_due });
            assert!(old.is_none(), "{}: it subscribes to it already", self.name);
        }
        for one in payload["refused"].as_array().expect("a list") {
            let code = one["code"].as_str().expect("a code");
            assert!(code.starts_with("too_many_"), "{}: {one}", self.name);
            self.wanted.remove(&stream_of(&one["channel"]));
        }
        if payload["more"] == false {
            self.requests.remove(place);
        } else if let Request::Subscribe { is_known, .. } = &mut self.requests[place].1 {
            *is_known = true;
        }
    }

    fn hear_gap(&mut self, payload: &Value, ledger: &Ledger) {
        let stream = stream_of(&payload["channel"]);
        let one = self.subscriptions.get_mut(&stream).expect("it subscribes to it");
        let id = |key: &str| parse_id(&stream, &payload[key]);
        let requested = payload["requested"].as_str().and_then(|id| id.strip_prefix(prefix(&stream)));
        let requested = requested.and_then(|id| id.parse::<u64>().ok()).expect("an id");
        match one.gap_due.take() {
            Some((asked, _)) => {
                assert_eq!(requested, asked, "{}: what it asked for", self.name);
                assert!(id("agreed") <= asked && id("agreed") <= one.run.after, "{}: {payload}", self.name);
            }
            None => {
                assert_eq!(id("agreed"), requested, "it has all up to there");
                one.run.take_gap(ledger, requested, id("oldest") - 1);
            }
        }
    }

    /// Everything up to there was sent, on all channels.
    fn hear_cursor(&mut self, text: &str, ledger: &Ledger) {
        let cursor = Cursor::parse(text).expect("a cursor");
        assert_eq!(*cursor.epoch, *self.epoch, "{}: in the current term", self.name);
        for (stream, one) in &mut self.subscriptions {
            let id = cursor.id(sequence(stream));
            assert!(id <= ledger.newest(self.era, stream), "{}: a cursor is ahead: {text}", self.name);
            if id > one.run.after {
                one.run.take_cursor(ledger, id);
            }
        }
        // A client that resumes from here asks for these, too.
        for (_, request) in &self.requests {
            if let Request::Subscribe { cursor: Some(asked), is_known: true, .. } = request {
                assert!(
                    cursor.message <= asked.message && cursor.event <= asked.event,
                    "{}: {text} is told while {asked} is asked for",
                    self.name
                );
            }
        }
        self.cursor = Some(text.to_owned());
    }
}

impl Behaviour for Streamer {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        let waits = self.is_turned_away && context.random.u32(..10) > 0;
        if waits || context.mood == Mood::Leaving || context.is_over {
            return None;
        }
        self.subscriptions.clear();
        self.requests.clear();
        self.pongs_due = 0;
        self.is_asked_to_reconnect = false;
        self.stage = Stage::Handshake;
        if self.cursor.is_some() && context.random.u32(..10) == 0 {
            self.cursor = context.random.bool().then(|| "7.7.another".to_owned());
        }
        let mut target = "/api/stream".to_owned();
        if !self.wanted.is_empty() && self.wanted.len() <= 2 {
            let names = self.wanted.iter();
            let pairs = names
                .map(|name| if name == EVENTS { "events=1".to_owned() } else { format!("channel={name}") });
            let cursor = self.cursor.iter().map(|cursor| format!("cursor={cursor}"));
            target = format!("{target}?{}", pairs.chain(cursor).collect::<Vec<_>>().join("&"));
            let cursor = self.cursor.as_deref().and_then(Cursor::parse);
            let request =
                Request::Subscribe { streams: self.wanted.clone(), cursor, is_long: false, is_known: true };
            self.requests.push_back((0, request));
        }
        let mut link = context.connect();
        link.say_upgrade(&upgrade_v1(&target));
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if self.stage == Stage::Handshake {
            let Some(response) = link.take_upgrade() else { return };
            self.is_turned_away = response.status != 101;
            if self.is_turned_away {
                return assert!(context.may_refuse(&response, link), "{}: {response:?}", self.name);
            }
            self.stage = Stage::Hello;
            if self.requests.is_empty() && !self.wanted.is_empty() {
                self.subscribe(link, context, self.wanted.clone(), true);
            }
        }
        while let Some((opcode, payload)) = link.take_frame() {
            self.hear_frame(opcode, &payload, link, context);
        }
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        if let Some(wish) = context.mishap() {
            return wish;
        }
        if self.is_turned_away {
            self.is_turned_away = context.mood != Mood::Chaos;
            return Wish::Close;
        }
        if !matches!(self.stage, Stage::Hello | Stage::Open) {
            return Wish::Stay;
        }
        let habits = &context.options.habits;
        if context.mood == Mood::Leaving || context.happens(habits.leave_chance) {
            if self.stage == Stage::Hello {
                return Wish::Close;
            }
            link.say_frame(context.random, CLOSE, &close_payload(GOODBYE));
            self.stage = Stage::Closing;
            return Wish::Stay;
        }
        if context.mood == Mood::Chaos && link.out.len() < 5_000 && context.happens(habits.publish_chance) {
            self.speak(link, context);
        }
        if context.happens(50) {
            self.pongs_due += 1;
            link.say_frame(context.random, PING, b"are you there");
        }
        Wish::Stay
    }

    fn ended(&mut self, link: &Link, context: &mut Context<'_>) {
        let rightly = match self.stage {
            Stage::Closed(_) => link.inbox.is_empty(),
            Stage::Handshake => self.is_turned_away || context.is_draining,
            Stage::Closing => context.may_be_dropped(link),
            _ => false,
        } || context.may_end(link);
        assert!(rightly, "{} kept the rules and was dropped in {:?}", self.name, self.stage);
    }

    fn crashed(&mut self) {}

    fn is_content(&self, ledger: &Ledger) -> bool {
        let is_through = |stream: &String| {
            self.subscriptions.get(stream).is_some_and(|one| one.is_live && one.run.is_through(ledger))
        };
        let is_open = self.stage == Stage::Open && self.pongs_due == 0 && self.requests.is_empty();
        self.is_turned_away || (is_open && self.wanted.iter().all(is_through))
    }

    fn name(&self) -> String {
        format!(
            "{} in {:?}: wants {:?}, has {:?}, waits for {:?}",
            self.name, self.stage, self.wanted, self.subscriptions, self.requests
        )
    }
}
