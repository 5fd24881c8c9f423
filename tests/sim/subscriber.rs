//! Subscribers of a channel or of the events: they check every broadcast, publish, come and go, and resume
//! where they were.

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::health::Told;
use crate::model::{EVENTS, Ledger, Run};
use crate::wire::{
    CLOSE, CONTINUE, GOODBYE, PING, PONG, TEXT, close_parts, close_payload, is_of_server, push_frame, upgrade,
};

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
    /// Its Close is sent, the server's is awaited.
    Closing,
    /// It has ended its half without a Close.
    HalfClosed,
    /// It was sent a Close.
    Closed(u16),
}

/// A subscriber.
pub(crate) struct Subscriber {
    name: String,
    /// A channel, or [`EVENTS`].
    stream: String,
    stage: Stage,
    run: Option<Run>,
    /// The health of the store as it was reported.
    told: Option<Told>,
    /// The id to resume from, as in this handshake.
    asked: Option<u64>,
    /// Keys of what was sent on this connection.
    sent: Vec<String>,
    /// Keys that must be in the store or refused, in the end.
    owed: Vec<String>,
    keys: u32,
    /// Pongs, and answers to `{"type":"ping"}`, that are due.
    pongs_due: u32,
    json_pongs_due: u32,
    /// The last Close that it was sent.
    pub(crate) close_code: Option<u16>,
    publishes: bool,
    is_turned_away: bool,
}

impl Subscriber {
    pub(crate) fn new(name: &str, stream: &str, publishes: bool) -> Self {
        Self {
            name: name.to_owned(),
            stream: stream.to_owned(),
            stage: Stage::Handshake,
            run: None,
            told: None,
            asked: None,
            sent: Vec::new(),
            owed: Vec::new(),
            keys: 0,
            pongs_due: 0,
            json_pongs_due: 0,
            close_code: None,
            publishes,
            is_turned_away: false,
        }
    }

    /// A message in fragments, with a Ping between two of them.
    fn say_fragmented(&mut self, link: &mut Link, context: &mut Context<'_>, text: &[u8]) {
        let mut frames = Vec::new();
        let cut = context.random.usize(..=text.len());
        let mask = context.random.u32(..).to_be_bytes();
        push_frame(TEXT, false, &text[..cut], mask, &mut frames);
        push_frame(PING, true, b"between", mask, &mut frames);
        push_frame(CONTINUE, false, &[], mask, &mut frames);
        push_frame(CONTINUE, true, &text[cut..], mask, &mut frames);
        self.pongs_due += 1;
        link.say(&frames);
    }

    fn publish(&mut self, link: &mut Link, context: &mut Context<'_>) {
        self.keys += 1;
        let key = format!("{}-{}", self.name, self.keys);
        let content = format!("{key} {}", context.padding());
        let text = format!("{{\"type\":\"message\",\"author\":\"{}\",\"content\":\"{content}\"}}", self.name);
        if context.random.bool() {
            link.say_frame(context.random, TEXT, text.as_bytes());
        } else {
            self.say_fragmented(link, context, text.as_bytes());
        }
        self.sent.push(key);
    }

    fn hear_frame(&mut self, opcode: u8, payload: &[u8], link: &mut Link, context: &mut Context<'_>) {
        assert!(!matches!(self.stage, Stage::Closed(_)), "{}: nothing comes after a Close", self.name);
        match opcode {
            TEXT => self.hear_text(std::str::from_utf8(payload).expect("text is UTF-8"), context),
            PING => {
                link.is_asked = true;
                if !matches!(self.stage, Stage::Closing | Stage::HalfClosed) {
                    link.say_frame(context.random, PONG, payload);
                }
            }
            PONG if payload.is_empty() => assert_ne!(self.stream, EVENTS, "heartbeats are messages there"),
            PONG => {
                assert!(self.pongs_due > 0, "{}: a pong for no ping", self.name);
                self.pongs_due -= 1;
            }
            CLOSE => self.hear_close(payload, link, context),
            other => panic!("{}: opcode {other}", self.name),
        }
    }

    fn hear_text(&mut self, text: &str, context: &mut Context<'_>) {
        let run = self.run.as_mut().expect("it is open");
        if text == "{\"type\":\"pong\"}" {
            assert!(self.json_pongs_due > 0, "{}: a JSON pong for no ping", self.name);
            self.json_pongs_due -= 1;
        } else if is_of_server(text) {
            // Neither is stored; both contain the cursor of this client.
            let is_known = ["heartbeat", "health_status"].iter().any(|kind| is_of_type(text, kind));
            assert!(is_known && self.stream == EVENTS, "{}: {text}", self.name);
            if is_of_type(text, "health_status") {
                self.told.as_mut().expect("it is open").take(text);
            }
            let id = text.split("\"event_id\":\"event-").nth(1).and_then(|id| id.strip_suffix("\"}"));
            let id = id.and_then(|id| id.parse().ok()).expect("a heartbeat has an id");
            run.take_cursor(&context.ledger.borrow(), id);
        } else {
            run.take(&context.ledger.borrow(), text);
        }
    }

    fn hear_close(&mut self, payload: &[u8], link: &mut Link, context: &mut Context<'_>) {
        let (code, reason) = close_parts(payload);
        let may_come =
            (code == GOODBYE && self.stage == Stage::Closing) || context.may_close(code, &reason, link);
        assert!(may_come, "{}: Close {code} {:?}", self.name, String::from_utf8_lossy(payload));
        if code == GOODBYE {
            // Everything that was sent before was read.
            self.owed.append(&mut self.sent);
        }
        if !matches!(self.stage, Stage::Closing | Stage::HalfClosed) {
            link.say_frame(context.random, CLOSE, &payload[..2]);
        }
        self.stage = Stage::Closed(code);
        self.close_code = Some(code);
    }

    fn open(&mut self, link: &mut Link, context: &mut Context<'_>) -> bool {
        let Some(response) = link.take_upgrade() else { return false };
        self.is_turned_away = response.status != 101;
        if self.is_turned_away {
            assert!(context.may_refuse(&response, link), "{}: {response:?}", self.name);
            return false;
        }
        let first_write = link.wire.borrow().first_write.expect("it has written");
        let which = usize::from(self.stream == EVENTS);
        let (newest, oldest) = (first_write.newest[which], first_write.oldest[which]);
        let is_kept = |id: u64| id <= newest && id + 1 >= oldest.min(newest + 1);
        let after = self.asked.map_or(newest, |id| if is_kept(id) { id } else { 0 });
        let era = link.wire.borrow().host().era.get();
        self.run = Some(Run::after(&context.ledger.borrow(), era, &self.stream, after));
        self.told = Some(Told::begin(&link.wire.borrow()));
        self.stage = Stage::Open;
        true
    }

    fn leave(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        if context.mood == Mood::Leaving || context.random.bool() {
            link.say_frame(context.random, CLOSE, &close_payload(GOODBYE));
            self.stage = Stage::Closing;
            return Wish::Stay;
        }
        if context.random.bool() {
            return Wish::Close;
        }
        if link.out.is_empty() {
            link.wire.borrow_mut().end();
            self.stage = Stage::HalfClosed;
        }
        Wish::Stay
    }
}

impl Behaviour for Subscriber {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        // A client that was refused does not return at once.
        let waits = self.is_turned_away && context.random.u32(..10) > 0;
        if waits || context.mood == Mood::Leaving || context.is_over {
            return None;
        }
        self.stage = Stage::Handshake;
        self.sent.clear();
        self.pongs_due = 0;
        self.json_pongs_due = 0;
        // A client that was away resumes where it was, or takes everything, or begins anew.
        let seen = self.run.take().map(|run| run.after);
        self.asked = match context.random.u32(..10) {
            0 => None,
            1 => Some(0),
            2 => Some(u64::from(u32::MAX)),
            _ => seen,
        };
        let prefix = if self.stream == EVENTS { "event" } else { "message" };
        let asked = self.asked.map(|id| format!("{prefix}-{id:05}"));
        let target =
            if self.stream == EVENTS { "/ws".to_owned() } else { format!("/api/ws/{}", self.stream) };
        let mut link = context.connect();
        match asked {
            Some(id) if context.random.bool() => {
                link.say_upgrade(&upgrade(&format!("{target}?last_event_id={id}"), None));
            }
            asked => link.say_upgrade(&upgrade(&target, asked.as_deref())),
        }
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if self.stage == Stage::Handshake && !self.open(link, context) {
            return;
        }
        while let Some((opcode, payload)) = link.take_frame() {
            self.hear_frame(opcode, &payload, link, context);
        }
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        let habits = &context.options.habits;
        if self.stage == Stage::HalfClosed {
            return Wish::Stay;
        }
        if let Some(wish) = context.mishap() {
            return wish;
        }
        if self.is_turned_away {
            self.is_turned_away = context.mood != Mood::Chaos;
            return Wish::Close;
        }
        if self.stage != Stage::Open {
            return Wish::Stay;
        }
        if context.mood == Mood::Leaving || context.happens(habits.leave_chance) {
            return self.leave(link, context);
        }
        // Messages that are published twice as fast as they can be sent pile up.
        if self.publishes && link.out.len() < 5_000 && context.happens(habits.publish_chance) {
            self.publish(link, context);
        }
        if self.publishes && context.happens(50) {
            self.json_pongs_due += 1;
            link.say_frame(context.random, TEXT, b"{\"type\":\"ping\"}");
        }
        if context.happens(50) {
            self.pongs_due += 1;
            link.say_frame(context.random, PING, b"are you there");
        }
        if context.happens(30) {
            link.say_frame(context.random, TEXT, b"[rubbish");
        }
        Wish::Stay
    }

    fn ended(&mut self, link: &Link, context: &mut Context<'_>) {
        let rightly = match self.stage {
            Stage::Closed(_) | Stage::HalfClosed => link.inbox.is_empty() || self.stage == Stage::HalfClosed,
            Stage::Handshake => self.is_turned_away || context.is_draining,
            Stage::Open | Stage::Closing => false,
        };
        let is_leaving = self.stage == Stage::Closing && context.may_be_dropped(link);
        let rightly = rightly || is_leaving || context.may_end(link);
        assert!(rightly, "{} kept the rules and was dropped in {:?}", self.name, self.stage);
        // Its last messages were read, unless a Close crossed them, or it took nothing for so long that it
        // was dropped with them unread (PROTOCOL 10.3): seed 6068.
        let is_heard = !link.wire.borrow().outflow.is_closing() && !context.may_end(link);
        // If the store fails they are lost, and with low rate limits there are Closes of which nothing is
        // sent.
        let (engine, limits) = (&context.options.engine, &context.options.config.limits);
        let is_limited = limits.messages_per_second_max > 0 || limits.inboxes_bytes_max < 1 << 20;
        let is_failing = engine.pages_fail_percent > 0 || engine.refuses_percent > 0;
        if self.stage == Stage::HalfClosed && is_heard && !is_limited && !is_failing {
            self.owed.append(&mut self.sent);
        }
    }

    fn crashed(&mut self) {}

    fn is_content(&self, ledger: &Ledger) -> bool {
        let missing =
            self.owed.iter().chain(&self.sent).filter(|key| !ledger.is_stored(ledger.era(), key)).count()
                as u64;
        let is_stored = missing <= ledger.refused + ledger.lost;
        let is_through = self.run.as_ref().is_some_and(|run| run.is_through(ledger));
        let is_told = self.stream != EVENTS || self.told.as_ref().is_some_and(Told::is_through);
        let is_answered = self.pongs_due == 0 && self.json_pongs_due == 0;
        self.is_turned_away || self.stage == Stage::Open && is_stored && is_through && is_told && is_answered
    }

    fn name(&self) -> String {
        format!("{} in {:?}: {:?}, {:?}, {:?} owed", self.name, self.stage, self.run, self.told, self.owed)
    }
}

fn is_of_type(text: &str, kind: &str) -> bool {
    text.strip_prefix("{\"type\":\"")
        .and_then(|rest| rest.strip_prefix(kind))
        .is_some_and(|rest| rest.starts_with('"'))
}
