//! Clients of the echo endpoint, and clients that break the rules.

use std::collections::VecDeque;

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::model::Ledger;
use crate::wire::{GOODBYE, RSV1, close_payload, deflate, push_frame, upgrade};

/// The state of an echo client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
    Closing,
    Closed,
}

/// Sends messages and expects them back, unchanged and in order.
pub(crate) struct Echoer {
    name: String,
    stage: Stage,
    due: VecDeque<(u8, Vec<u8>)>,
    is_turned_away: bool,
}

impl Echoer {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), stage: Stage::Handshake, due: VecDeque::new(), is_turned_away: false }
    }

    fn say(&mut self, link: &mut Link, context: &mut Context<'_>) {
        let opcode = context.random.u8(1..=2);
        let payload = context.padding().into_bytes();
        let mask = context.random.u32(..).to_be_bytes();
        // Each message may be compressed (RFC 7692 section 6).
        let is_compressed = link.has_deflate && mask[0] & 1 == 0;
        let (first, sent) =
            if is_compressed { (RSV1 | opcode, deflate(&payload)) } else { (opcode, payload.clone()) };
        let cut = context.random.usize(..=sent.len());
        let mut frames = Vec::new();
        if context.random.bool() {
            push_frame(first, true, &sent, mask, &mut frames);
        } else {
            push_frame(first, false, &sent[..cut], mask, &mut frames);
            push_frame(0, true, &sent[cut..], mask, &mut frames);
        }
        link.say(&frames);
        self.due.push_back((opcode, payload));
    }

    fn reply(opcode: u8, payload: &[u8], link: &mut Link, context: &mut Context<'_>) {
        let mut frame = Vec::new();
        push_frame(opcode, true, payload, context.random.u32(..).to_be_bytes(), &mut frame);
        link.say(&frame);
    }

    fn hear_frame(&mut self, opcode: u8, payload: Vec<u8>, link: &mut Link, context: &mut Context<'_>) {
        assert!(self.stage != Stage::Closed, "{}: nothing comes after a Close", self.name);
        match opcode {
            1 | 2 => {
                let due = self.due.pop_front();
                assert!(due == Some((opcode, payload)), "{}: not what was sent", self.name);
            }
            8 => {
                let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                match self.stage {
                    Stage::Closing if code == GOODBYE => {
                        assert!(self.due.is_empty(), "{}: all comes back before the Close", self.name);
                    }
                    _ => {
                        let reason = String::from_utf8_lossy(&payload[2.min(payload.len())..]).into_owned();
                        assert!(
                            context.may_close(code, &reason, link),
                            "{}: Close {code} {reason}",
                            self.name
                        );
                        self.due.clear();
                    }
                }
                if self.stage == Stage::Open {
                    Self::reply(8, &payload[..2], link, context);
                }
                self.stage = Stage::Closed;
            }
            9 => {
                link.is_asked = true;
                if self.stage == Stage::Open {
                    Self::reply(10, &payload, link, context);
                }
            }
            // A heartbeat that needs no answer.
            10 if payload.is_empty() => {}
            other => panic!("{}: opcode {other}", self.name),
        }
    }
}

impl Behaviour for Echoer {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        self.due.clear();
        self.is_turned_away = false;
        if context.mood != Mood::Chaos || context.is_over {
            return None;
        }
        self.stage = Stage::Handshake;
        let mut link = context.connect();
        link.say_upgrade(&upgrade("/api/ws", None));
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if self.stage == Stage::Handshake {
            let Some(response) = link.take_upgrade() else { return };
            if response.status != 101 {
                self.is_turned_away = true;
                return assert!(context.may_refuse(&response, link), "{}: {response:?}", self.name);
            }
            self.stage = Stage::Open;
        }
        while let Some((opcode, payload)) = link.take_frame() {
            self.hear_frame(opcode, payload, link, context);
        }
    }

    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish {
        let habits = &context.options.habits;
        if let Some(wish) = context.mishap() {
            return wish;
        }
        if self.is_turned_away {
            return Wish::Close;
        }
        if self.stage != Stage::Open {
            return Wish::Stay;
        }
        if context.mood == Mood::Leaving || context.happens(habits.leave_chance) {
            let mut frame = Vec::new();
            push_frame(8, true, &close_payload(GOODBYE), [1, 2, 3, 4], &mut frame);
            link.say(&frame);
            self.stage = Stage::Closing;
        } else if link.out.len() < 5_000 && context.happens(habits.publish_chance) {
            self.say(link, context);
        }
        Wish::Stay
    }

    fn ended(&mut self, link: &Link, context: &mut Context<'_>) {
        let rightly = match self.stage {
            Stage::Closed => link.inbox.is_empty(),
            Stage::Handshake => self.is_turned_away || context.is_draining,
            Stage::Open | Stage::Closing => false,
        };
        let is_leaving = self.stage == Stage::Closing && context.may_be_dropped(link);
        let rightly = rightly || is_leaving || context.may_end(link);
        assert!(rightly, "{} kept the rules and was dropped in {:?}", self.name, self.stage);
    }

    fn crashed(&mut self) {
        self.due.clear();
    }

    fn is_content(&self, _: &Ledger) -> bool {
        self.stage == Stage::Closed || self.due.is_empty()
    }

    fn name(&self) -> String {
        format!("{} in {:?}, {} due", self.name, self.stage, self.due.len())
    }
}

/// Sends what no client should, or half of it, and expects nothing.
pub(crate) struct Hostile;

impl Behaviour for Hostile {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        if context.mood != Mood::Chaos || context.is_over {
            return None;
        }
        let mut link = context.connect();
        let rubbish = |random: &mut fastrand::Rng| {
            let len = random.usize(..200);
            std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<u8>>()
        };
        match context.random.u32(..7) {
            0 => link.say(&rubbish(context.random)),
            1 => link.say(b"GET /api/health HTTP/1.1\r\nHost: half a head\r\n"),
            2 => link.say(
                b"POST /api/messages HTTP/1.1\r\nHost: p\r\nContent-Length: 1999\r\n\r\n{\"channel_id\"",
            ),
            3 => link.say(b"GET /api/health HTTP/1.1\r\nHost: p\r\nBad header: x\r\n\r\n"),
            4 => link.say(&upgrade("/ws?subscribe_token=short", Some("event-00001"))),
            5 => {
                // A message that is declared and never sent.
                link.say(&upgrade("/api/ws", None));
                link.say(&[0x82, 0xFE, 0x07, 0x00, 1, 2, 3, 4, 5]);
            }
            _ => {
                link.say(&upgrade(["/ws", "/api/ws", "/api/ws/c0"][context.random.usize(..3)], None));
                match context.random.u32(..4) {
                    0 => link.say(&rubbish(context.random)),
                    1 => link.say(&[0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28]),
                    2 => link.say(&[0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    _ => link.say(&[0x88, 0x81, 0, 0, 0, 0, 1]),
                }
            }
        }
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, _: &mut Context<'_>) {
        link.inbox.clear();
    }

    fn act(&mut self, _: &mut Link, context: &mut Context<'_>) -> Wish {
        match context.random.u32(..40) {
            0 => Wish::Close,
            1 => Wish::Reset,
            2 => Wish::Vanish,
            _ if context.mood == Mood::Leaving => Wish::Close,
            _ => Wish::Stay,
        }
    }

    fn ended(&mut self, _: &Link, _: &mut Context<'_>) {}

    fn crashed(&mut self) {}

    fn is_content(&self, _: &Ledger) -> bool {
        true
    }

    fn name(&self) -> String {
        "a hostile client".to_owned()
    }
}
