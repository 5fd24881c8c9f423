//! A client of `polecat.v1`, written from PROTOCOL 14. It checks the order of the messages that it gets,
//! follows over gaps and restarts, and sends unacknowledged messages again with the same key until they are
//! acknowledged.

use std::collections::VecDeque;

use serde_json::Value;

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::health::Told;
use crate::model::{EVENTS, Ledger, Run, parse_id};
use crate::position::{Asked, Position};
use crate::wire::{CLOSE, GOODBYE, PING, PONG, TEXT, close_parts, close_payload, is_of_server, upgrade_v1};

/// The server's own messages.
const CONTROL: [&str; 8] = ["hello", "resumed", "gap", "live", "ack", "error", "reconnect", "heartbeat"];

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Hello,
    /// `resumed`, or `gap`.
    Answer {
        is_resumable: bool,
    },
    Replay,
    /// It did not ask to resume: `live` is next.
    LiveAtOnce,
    Live,
    Closing,
    Closed(u16),
}

/// A message to be stored once.
#[derive(Debug)]
struct Unsettled {
    key: String,
    content: String,
    is_in_flight: bool,
}

impl Unsettled {
    /// It must be sent again.
    fn cut(&mut self) {
        self.is_in_flight = false;
    }
}

/// A message in flight, with its `id`.
#[derive(Debug)]
struct Said {
    id: Option<String>,
    key: Option<String>,
}

pub(crate) struct Follower {
    name: String,
    stream: String,
    stage: Stage,
    asked: Option<Asked>,
    run: Option<Run>,
    /// The health of the store as it was reported.
    told: Option<Told>,
    position: Position,
    /// `oldest` and `newest` of `hello`.
    kept: (u64, u64),
    said: VecDeque<Said>,
    unsettled: Vec<Unsettled>,
    /// Errors that are due, with their `id`.
    wrong: VecDeque<(&'static str, Value)>,
    count: u32,
    pongs_due: u32,
    json_pongs_due: u32,
    is_asked_to_reconnect: bool,
    is_turned_away: bool,
}

impl Follower {
    pub(crate) fn new(name: &str, stream: &str) -> Self {
        Self {
            name: name.to_owned(),
            stream: stream.to_owned(),
            stage: Stage::Handshake,
            asked: None,
            run: None,
            told: None,
            position: Position::default(),
            kept: (0, 0),
            said: VecDeque::new(),
            unsettled: Vec::new(),
            wrong: VecDeque::new(),
            count: 0,
            pongs_due: 0,
            json_pongs_due: 0,
            is_asked_to_reconnect: false,
            is_turned_away: false,
        }
    }

    fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Handshake | Stage::Closing | Stage::Closed(_))
    }

    /// Messages in flight when a connection ended are sent again.
    fn cut(&mut self) {
        self.said.clear();
        self.wrong.clear();
        self.pongs_due = 0;
        self.json_pongs_due = 0;
        self.is_asked_to_reconnect = false;
        self.unsettled.iter_mut().for_each(Unsettled::cut);
    }

    fn id(&self, value: &Value) -> u64 {
        parse_id(&self.stream, value)
    }
}

impl Follower {
    fn publish(&mut self, place: usize, link: &mut Link, context: &mut Context<'_>) {
        self.count += 1;
        let publish = &mut self.unsettled[place];
        publish.is_in_flight = true;
        let (key, content) = (publish.key.clone(), &publish.content);
        let id = if self.count.is_multiple_of(2) {
            format!("{}", self.count)
        } else {
            format!("\"id {}\"", self.count)
        };
        let text = format!(
            "{{\"type\":\"message\",\"id\":{id},\"idempotency_key\":\"{key}\",\"author\":\"{}\",\
             \"content\":\"{content}\"}}",
            self.name
        );
        link.say_frame(context.random, TEXT, text.as_bytes());
        self.said.push_back(Said { id: Some(id), key: Some(key) });
    }

    /// Sends something: a message to be stored once, one that nobody waits for, or an invalid one.
    fn speak(&mut self, link: &mut Link, context: &mut Context<'_>) {
        self.count += 1;
        let key = format!("{}-{}", self.name, self.count);
        match context.random.u32(..8) {
            0 => {
                let text = format!("{{\"type\":\"message\",\"author\":\"f\",\"content\":\"{key}\"}}");
                link.say_frame(context.random, TEXT, text.as_bytes());
                self.said.push_back(Said { id: None, key: None });
            }
            1 => self.speak_wrongly(link, context, "{nothing", "malformed_json", Value::Null),
            2 => self.speak_wrongly(link, context, "[]", "wrong_type", Value::Null),
            3 => {
                let text = "{\"type\":\"message\",\"id\":\"x\",\"content\":5}";
                self.speak_wrongly(link, context, text, "wrong_type", "x".into());
            }
            4 => self.speak_wrongly(link, context, "{\"type\":\"dance\",\"id\":7}", "unknown_type", 7.into()),
            _ => {
                let content = format!("{key} {}", context.padding());
                self.unsettled.push(Unsettled { key, content, is_in_flight: false });
                self.publish(self.unsettled.len() - 1, link, context);
            }
        }
    }

    fn speak_wrongly(
        &mut self,
        link: &mut Link,
        context: &mut Context<'_>,
        text: &str,
        code: &'static str,
        id: Value,
    ) {
        link.say_frame(context.random, TEXT, text.as_bytes());
        self.wrong.push_back((code, id));
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
                assert!(
                    code != 1001 || self.is_asked_to_reconnect || self.stage == Stage::Closing,
                    "{}: nobody asked it to come again",
                    self.name
                );
                if self.stage != Stage::Closing {
                    link.say_frame(context.random, CLOSE, &payload[..2]);
                }
                self.stage = Stage::Closed(code);
            }
            other => panic!("{}: opcode {other}", self.name),
        }
    }

    fn hear_text(&mut self, text: &str, link: &Link, context: &mut Context<'_>) {
        if text == "{\"type\":\"pong\"}" {
            assert!(self.json_pongs_due > 0, "{}: a JSON pong for no ping", self.name);
            self.json_pongs_due -= 1;
            return;
        }
        let kind = text.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next());
        let kind = kind.expect("a type comes first");
        if is_of_server(text) {
            let is_known = CONTROL.contains(&kind) || (kind == "health_status" && self.stream == EVENTS);
            let envelope: Value = serde_json::from_str(text).expect("a message is JSON");
            let is_envelope = envelope.as_object().is_some_and(|envelope| envelope.len() == 5);
            assert!(is_known && is_envelope, "{}: {text}", self.name);
            let (payload, cursor) = (&envelope["payload"], self.id(&envelope["event_id"]));
            if kind == "hello" {
                self.hear_hello(payload, cursor, link, context);
            } else {
                if kind == "health_status" {
                    self.told.as_mut().expect("it is open").take(text);
                }
                self.hear_control(kind, payload, cursor, context);
            }
        } else {
            let is_due = matches!(self.stage, Stage::Replay | Stage::Live | Stage::Closing);
            assert!(is_due, "{} in {:?}: {text}", self.name, self.stage);
            let run = self.run.as_mut().expect("it was greeted");
            run.take(&context.ledger.borrow(), text);
            self.position.take(run.after, text);
        }
    }

    fn hear_control(&mut self, kind: &str, payload: &Value, cursor: u64, context: &Context<'_>) {
        let name = &self.name.clone();
        let stage = self.stage;
        let mut ledger = context.ledger.borrow_mut();
        let run = self.run.as_mut().expect("hello comes first");
        // A client that has sent its Close may get anything that was in flight.
        let is_leaving = stage == Stage::Closing;
        let is_later = matches!(stage, Stage::Replay | Stage::Live) || (is_leaving && cursor > run.after);
        if kind == "gap" && is_later {
            take_later_gap(run, &ledger, &self.stream, payload, cursor);
        } else {
            run.take_cursor(&ledger, cursor);
        }
        self.position.stand_at(cursor);
        let (era, stream, newest) = (run.era, &*self.stream.clone(), self.kept.1);
        match kind {
            // Messages that it had may not be in the database that it continues with.
            "resumed" | "gap" if is_leaving => self.position.forget(),
            _ if is_leaving => {}
            "resumed" => {
                assert_eq!(stage, Stage::Answer { is_resumable: true }, "{name}: resumed {:?}", self.asked);
                let asked = self.asked.as_ref().expect("it has asked");
                let from = parse_id(stream, &payload["from"]);
                assert_eq!(Some(from), asked.id, "{name}");
                self.position.agree(&ledger, run, stream, asked, from);
                let most = ledger.count(era, stream, from + 1, newest);
                let least = ledger.count(era, stream, (from + 1).max(ledger.oldest(era, stream)), newest);
                let count = payload["count"].as_u64().expect("a count");
                let more = payload["more"] == true;
                let holds = if more { count < most } else { (least..=most).contains(&count) };
                assert!(holds, "{name}: {count} of {least} to {most}, more: {more}");
                self.stage = Stage::Replay;
            }
            "gap" if matches!(stage, Stage::Answer { .. }) => {
                let due = Stage::Answer { is_resumable: false };
                assert_eq!(stage, due, "{name}: a gap after {:?}", self.asked);
                let asked = self.asked.as_ref().expect("it has asked");
                assert_eq!(payload["requested"].as_str(), Some(&*asked.text), "{name}");
                let agreed = parse_id(stream, &payload["agreed"]);
                assert_eq!(agreed, asked.agreed(&ledger, era, stream, newest), "{name}: {asked:?}");
                self.position.agree(&ledger, run, stream, asked, agreed);
                let kept = (parse_id(stream, &payload["oldest"]), parse_id(stream, &payload["newest"]));
                assert_eq!(kept, self.kept, "{name}: hello said so");
                self.stage = Stage::Replay;
            }
            "live" => {
                assert!(matches!(stage, Stage::Replay | Stage::LiveAtOnce), "{name}: live in {stage:?}");
                assert!(run.is_past(&ledger, self.kept.1), "{name}: live at {cursor}");
                self.stage = Stage::Live;
            }
            "ack" => {
                let said = self.take_said(&payload["id"]);
                let key = said.key.expect("it was to be stored once");
                ledger.acknowledge(era, &key, parse_id(stream, &payload["event_id"]));
                self.unsettled.retain(|publish| publish.key != key);
            }
            "error" if payload["code"] == "store_unavailable" => {
                assert!(ledger.refused > 0, "{name}: nothing was refused");
                let key = self.take_said(&payload["id"]).key;
                self.unsettled.iter_mut().filter(|it| Some(&it.key) == key.as_ref()).for_each(Unsettled::cut);
            }
            "error" => {
                let due = self.wrong.pop_front();
                let due = due.as_ref().map(|(code, id)| (*code, id));
                assert_eq!(due, payload["code"].as_str().map(|code| (code, &payload["id"])), "{name}");
            }
            "reconnect" => {
                let after_ms = payload["after_ms"].as_u64().expect("a time");
                let drain_ms = u64::from(context.options.config.timeouts.drain_ms);
                assert!(
                    context.is_draining && (500..=500 + drain_ms).contains(&after_ms),
                    "{name}: {after_ms}"
                );
                self.is_asked_to_reconnect = true;
            }
            _ => {}
        }
    }

    fn hear_hello(&mut self, payload: &Value, cursor: u64, link: &Link, context: &Context<'_>) {
        assert_eq!(self.stage, Stage::Hello, "{}: one hello", self.name);
        let first_write = link.wire.borrow().first_write.expect("it has written");
        let which = usize::from(self.stream == EVENTS);
        let newest = first_write.newest[which];
        let oldest = first_write.oldest[which].min(newest + 1);
        self.kept = (self.id(&payload["oldest"]), self.id(&payload["newest"]));
        assert_eq!(self.kept, (oldest, newest), "{}: what can be replayed", self.name);
        let (era, epoch) =
            (link.wire.borrow().host().era.get(), link.wire.borrow().host().epoch.borrow().clone());
        assert_eq!(payload["epoch"], *epoch);
        assert_eq!(payload["channel"].as_str(), (self.stream != EVENTS).then_some(&*self.stream));
        let config = &context.options.config;
        assert_eq!(payload["heartbeat_interval_ms"], config.timeouts.heartbeat_interval_ms);
        assert_eq!(payload["message_bytes_max"], config.limits.message_bytes_max);
        assert_eq!(payload["idempotency_window_ms"], context.options.engine.window_ms);
        let mut ledger = context.ledger.borrow_mut();
        let (start, stage) = match &self.asked {
            None => (newest, Stage::LiveAtOnce),
            Some(asked) => {
                let is_resumable = asked.is_resumable(&ledger, era, &self.stream, self.kept);
                let agreed = asked.agreed(&ledger, era, &self.stream, newest);
                ledger.resumes_across_terms += u64::from(is_resumable && asked.is_of_other_term(&epoch));
                ledger.gaps_of_terms += u64::from(asked.is_of_other_term(&epoch) && asked.id > Some(agreed));
                let start = if is_resumable { agreed } else { agreed.max(oldest.saturating_sub(1)) };
                (start, Stage::Answer { is_resumable })
            }
        };
        assert_eq!(cursor, start, "{}: where it stands after {:?}", self.name, self.asked);
        self.run = Some(Run::told(&ledger, era, &self.stream, start));
        self.stage = stage;
        self.position.greet(&epoch, cursor, self.asked.as_ref());
    }

    /// Removes the message with `id`; answers come in the order of the messages.
    fn take_said(&mut self, id: &Value) -> Said {
        let id = (!id.is_null()).then(|| id.to_string());
        while let Some(said) = self.said.pop_front() {
            if said.id == id {
                return said;
            }
            assert_eq!(said.id, None, "{}: answers come in order", self.name);
        }
        panic!("{}: an answer for {id:?}, which was not said", self.name);
    }
}

/// Retention has overtaken the client: `oldest` follows its cursor.
fn take_later_gap(run: &mut Run, ledger: &Ledger, stream: &str, payload: &Value, cursor: u64) {
    run.take_gap(ledger, parse_id(stream, &payload["requested"]), cursor);
    assert_eq!(payload["agreed"], payload["requested"], "it has all up to there");
    assert_eq!(parse_id(stream, &payload["oldest"]), cursor + 1, "what is kept follows");
}

impl Behaviour for Follower {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        // A client that was refused does not return at once.
        let waits = self.is_turned_away && context.random.u32(..10) > 0;
        if waits || context.mood == Mood::Leaving || context.is_over {
            return None;
        }
        self.cut();
        self.stage = Stage::Handshake;
        self.run = None;
        self.asked = self.position.ask(&self.stream, context.random);
        let path = if self.stream == EVENTS { "/ws".to_owned() } else { format!("/api/ws/{}", self.stream) };
        let query = self.asked.as_ref().map_or_else(String::new, Asked::query);
        let mut link = context.connect();
        link.say_upgrade(&upgrade_v1(&format!("{path}{query}")));
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if self.stage == Stage::Handshake {
            let Some(response) = link.take_upgrade() else { return };
            self.is_turned_away = response.status != 101;
            if self.is_turned_away {
                return assert!(context.may_refuse(&response, link), "{}: {response:?}", self.name);
            }
            self.told = Some(Told::begin(&link.wire.borrow()));
            self.stage = Stage::Hello;
        }
        while let Some((opcode, payload)) = link.take_frame() {
            self.hear_frame(opcode, &payload, link, context);
        }
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        let habits = &context.options.habits;
        if let Some(wish) = context.mishap() {
            return wish;
        }
        if self.is_turned_away {
            self.is_turned_away = context.mood != Mood::Chaos;
            return Wish::Close;
        }
        if !self.is_open() {
            return Wish::Stay;
        }
        if context.mood == Mood::Leaving || context.happens(habits.leave_chance) {
            if self.stage == Stage::Hello || (context.mood == Mood::Chaos && context.random.bool()) {
                return Wish::Close;
            }
            link.say_frame(context.random, CLOSE, &close_payload(GOODBYE));
            self.stage = Stage::Closing;
            return Wish::Stay;
        }
        if self.stream != EVENTS && link.out.len() < 5_000 {
            let again = self.unsettled.iter().position(|publish| !publish.is_in_flight);
            if let Some(place) = again
                .filter(|_| context.mood == Mood::Chaos || self.said.iter().all(|said| said.id.is_none()))
            {
                self.publish(place, link, context);
            } else if context.happens(habits.publish_chance) {
                self.speak(link, context);
            }
        }
        if context.happens(50) {
            self.json_pongs_due += 1;
            link.say_frame(context.random, TEXT, b"{\"type\":\"ping\"}");
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
        let is_answered = self.pongs_due == 0
            && self.json_pongs_due == 0
            && self.wrong.is_empty()
            && self.unsettled.is_empty();
        let is_through = self.run.as_ref().is_some_and(|run| run.is_through(ledger));
        let is_told = self.stream != EVENTS || self.told.as_ref().is_some_and(Told::is_through);
        self.is_turned_away || (self.stage == Stage::Live && is_answered && is_through && is_told)
    }

    fn name(&self) -> String {
        format!(
            "{} in {:?}: {:?}, {:?}, {:?}, {:?} due",
            self.name, self.stage, self.run, self.told, self.unsettled, self.wrong
        )
    }
}
