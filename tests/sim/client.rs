//! A modelled client: its end of a connection, and the times at which it acts. Its behaviour decides what it
//! sends and expects.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::model::Ledger;
use crate::node::Node;
use crate::options::Options;
use crate::pipe::{Manners, SharedWire, Wire};
use crate::wire::{Response, push_frame, take_frame_of, take_response};

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Clients act freely, and things fail.
    Chaos,
    /// Nothing fails any more, nothing new is begun, and every client reads.
    Calm,
    /// All clients leave.
    Leaving,
}

/// Everything that a client may know and use while it acts.
pub(crate) struct Context<'w> {
    pub(crate) now_ms: u64,
    pub(crate) random: &'w mut fastrand::Rng,
    pub(crate) options: &'w Options,
    pub(crate) ledger: &'w RefCell<Ledger>,
    pub(crate) mood: Mood,
    /// Whether a server was told to stop.
    pub(crate) is_draining: bool,
    /// Whether no server follows those.
    pub(crate) is_over: bool,
    /// The servers that clients can connect to.
    pub(crate) nodes: &'w mut Vec<Node>,
    /// Connections whose clients have vanished.
    pub(crate) lost: &'w mut Vec<SharedWire>,
    pub(crate) trace: &'w mut Trace,
}

impl Context<'_> {
    /// Connects.
    pub(crate) fn connect(&mut self) -> Link {
        let manners = match self.mood {
            Mood::Chaos => self.options.manners.clone(),
            Mood::Calm | Mood::Leaving => Manners::default(),
        };
        let seed = self.random.u64(..);
        let node = self.random.usize(..self.nodes.len());
        let node = &mut self.nodes[node];
        let wire = Rc::new(RefCell::new(Wire::new(manners, seed, Rc::clone(&node.host))));
        node.backlog.push_back(Rc::clone(&wire));
        Link::new(wire, seed, self.now_ms)
    }

    /// Whether an event with this chance, in a thousand, happens now.
    pub(crate) fn happens(&mut self, chance: u32) -> bool {
        self.mood == Mood::Chaos && self.random.u32(..1000) < chance
    }

    /// Whether a correct handshake or request may get this response.
    pub(crate) fn may_refuse(&self, response: &Response, link: &Link) -> bool {
        let limits = &self.options.config.limits;
        let timeouts = &self.options.config.timeouts;
        let reasons = [
            ("the server is shutting down", self.is_draining),
            ("too many connections", self.is_limited() && response.closes),
            ("too little memory", self.is_limited() && response.closes),
            ("too many channels", limits.channels_max < usize::MAX),
            ("too much is unfinished", limits.inboxes_bytes_max < 1 << 20),
        ];
        match response.status {
            // The response to a HEAD does not give the reason.
            503 => reasons
                .iter()
                .any(|(text, may_be)| *may_be && (response.body.is_empty() || response.body.contains(text))),
            // The first request's time begins with the connect.
            408 => {
                let took_ms = link.longest_rest_ms + link.longest_send_ms;
                took_ms >= u64::from(timeouts.request_ms.min(timeouts.handshake_ms))
            }
            _ => false,
        }
    }

    /// Whether a well-behaved WebSocket may get this Close.
    pub(crate) fn may_close(&self, code: u16, reason: &str, link: &Link) -> bool {
        let limits = &self.options.config.limits;
        match code {
            1001 => self.is_draining,
            1008 => limits.messages_per_second_max > 0,
            1011 => self.was_silent(link) && link.is_asked,
            1013 if reason.starts_with("history") => self.ledger.borrow().failures > 0,
            1013 if reason == "too much is unsent" => self.may_run_out_of_room(),
            1013 => limits.inboxes_bytes_max < 1 << 20,
            _ => false,
        }
    }

    /// Whether a connection may end without a Close: it was silent for too long, or too slow.
    pub(crate) fn may_end(&self, link: &Link) -> bool {
        let timeouts = &self.options.config.timeouts;
        let short = timeouts.request_ms.min(timeouts.handshake_ms);
        self.was_silent(link)
            || link.longest_rest_ms >= u64::from(short.min(timeouts.keep_alive_ms))
            || link.longest_send_ms >= u64::from(short)
            // If very many are refused, some connections end before they get the reason.
            || (self.is_limited() && (!link.has_heard || self.may_be_dropped(link)))
            || (self.may_be_closed() && link.longest_rest_ms >= u64::from(timeouts.close_ms))
            // A slow reader gets its Close too late, whatever it sends.
            || (self.is_draining && self.may_be_dropped(link))
            || self.may_run_out_of_room()
    }

    /// Whether the limit of unsent bytes is so low that slow clients may be closed for others.
    fn may_run_out_of_room(&self) -> bool {
        self.options.config.limits.outboxes_bytes_max < 1 << 20
    }

    /// Whether there may have been a Close that a client did not answer in time.
    fn may_be_closed(&self) -> bool {
        let limits = &self.options.config.limits;
        self.is_draining
            || limits.messages_per_second_max > 0
            || limits.inboxes_bytes_max < 1 << 20
            || self.may_run_out_of_room()
            || self.ledger.borrow().failures > 0
    }

    /// Whether a connection that is being closed may have been dropped, with bytes that its client has yet to
    /// read: it took nothing for too long (PROTOCOL 11.6, 13.4).
    pub(crate) fn may_be_dropped(&self, link: &Link) -> bool {
        link.longest_absence_ms >= u64::from(self.options.config.timeouts.close_ms)
    }

    /// Whether there may be too many connections.
    fn is_limited(&self) -> bool {
        let limits = &self.options.config.limits;
        limits.connections_max < usize::MAX
            || limits.connections_per_source_max > 0
            || limits.resident_bytes_max > 0
    }

    /// Whether it may have been closed for its silence (PROTOCOL 9.3).
    fn was_silent(&self, link: &Link) -> bool {
        link.longest_rest_ms >= u64::from(self.options.config.timeouts.heartbeat_interval_ms) * 5 / 2
    }

    /// A random mishap of a connection: a reset, or silence for ever.
    pub(crate) fn mishap(&mut self) -> Option<Wish> {
        let habits = &self.options.habits;
        if self.happens(habits.reset_chance) {
            Some(Wish::Reset)
        } else {
            self.happens(habits.vanish_chance).then_some(Wish::Vanish)
        }
    }

    /// Letters to pad a message with.
    pub(crate) fn padding(&mut self) -> String {
        let habits = &self.options.habits;
        let big = self.random.u32(..1000) < habits.big_chance;
        let max =
            if big { self.options.config.limits.message_bytes_max - 300 } else { habits.content_bytes_max };
        let letter = self.random.lowercase();
        std::iter::repeat_n(letter, self.random.usize(..=max)).collect()
    }
}

/// A hash of everything that happened: the same seed must give the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) u64);

impl Trace {
    pub(crate) fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Headers of handshakes: some clients offer compression, with various windows, and some do not.
const OFFERS: [&str; 4] = [
    "",
    "",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n",
];

/// The client's end of a connection.
pub(crate) struct Link {
    pub(crate) wire: SharedWire,
    /// Bytes that were sent and are in flight.
    pub(crate) out: VecDeque<u8>,
    /// Bytes that were received and are not parsed yet.
    pub(crate) inbox: Vec<u8>,
    /// The extension that its handshake offers; empty if none.
    offer: &'static str,
    /// Whether compression was negotiated.
    pub(crate) has_deflate: bool,
    /// Whether it has ever received anything.
    has_heard: bool,
    /// Whether it got a Ping and has sent nothing since.
    pub(crate) is_asked: bool,
    /// When it last checked for bytes to read.
    looked_ms: u64,
    /// When it last sent anything; receiving is not a sign of life.
    moved_ms: u64,
    /// Since when there has always been something to send.
    sending_since_ms: Option<u64>,
    /// The longest time in which it took nothing.
    longest_absence_ms: u64,
    /// The longest time in which it sent nothing.
    pub(crate) longest_rest_ms: u64,
    /// The longest time in which there always was something to send.
    pub(crate) longest_send_ms: u64,
}

impl Link {
    fn new(wire: SharedWire, seed: u64, now_ms: u64) -> Self {
        Self {
            wire,
            out: VecDeque::new(),
            inbox: Vec::new(),
            offer: OFFERS[usize::try_from(seed % OFFERS.len() as u64).unwrap()],
            has_deflate: false,
            has_heard: false,
            is_asked: false,
            looked_ms: now_ms,
            moved_ms: now_ms,
            sending_since_ms: None,
            longest_absence_ms: 0,
            longest_rest_ms: 0,
            longest_send_ms: 0,
        }
    }

    /// Records how long it is idle and how long it sends.
    fn note(&mut self, has_moved: bool, now_ms: u64) {
        self.longest_rest_ms = self.longest_rest_ms.max(now_ms - self.moved_ms);
        if has_moved {
            self.moved_ms = now_ms;
            self.is_asked = false;
        }
        if let Some(since_ms) = self.sending_since_ms {
            self.longest_send_ms = self.longest_send_ms.max(now_ms - since_ms);
        }
        if self.out.is_empty() {
            self.sending_since_ms = None;
        } else {
            self.sending_since_ms.get_or_insert(now_ms);
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
    }

    /// Sends a whole frame.
    pub(crate) fn say_frame(&mut self, random: &mut fastrand::Rng, opcode: u8, payload: &[u8]) {
        let mut frame = Vec::new();
        push_frame(opcode, true, payload, random.u32(..).to_be_bytes(), &mut frame);
        self.say(&frame);
    }

    /// Asks for a WebSocket, with the extension that this client offers.
    pub(crate) fn say_upgrade(&mut self, request: &[u8]) {
        let head = request.strip_suffix(b"\r\n").expect("a head ends with an empty line");
        self.say(head);
        self.say(self.offer.as_bytes());
        self.say(b"\r\n");
    }

    /// The response to that.
    pub(crate) fn take_upgrade(&mut self) -> Option<Response> {
        let response = take_response(&mut self.inbox, false)?;
        let is_agreed = response.status == 101 && !self.offer.is_empty();
        assert_eq!(response.has_deflate, is_agreed, "{:?}: {response:?}", self.offer);
        self.has_deflate = is_agreed;
        Some(response)
    }

    /// The next frame, if it is complete; a compressed one is inflated.
    pub(crate) fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        take_frame_of(&mut self.inbox, self.has_deflate)
    }

    fn receive(&mut self, catches_up: bool, context: &mut Context<'_>) {
        let waiting = self.wire.borrow().waiting();
        let len = if catches_up { waiting } else { segment(context, waiting) };
        let bytes = self.wire.borrow_mut().receive(len);
        context.trace.mix(&bytes);
        self.longest_absence_ms = self.longest_absence_ms.max(context.now_ms - self.looked_ms);
        self.looked_ms = context.now_ms;
        self.note(false, context.now_ms);
        self.has_heard |= !bytes.is_empty();
        self.inbox.extend_from_slice(&bytes);
    }

    fn send(&mut self, context: &mut Context<'_>) {
        if !self.out.is_empty() {
            let len = segment(context, self.out.len());
            let sent = self.wire.borrow_mut().send(&mut self.out, len);
            self.note(sent > 0, context.now_ms);
        }
    }
}

/// How many of `len` bytes get through at once. Long messages do not take for ever.
fn segment(context: &mut Context<'_>, len: usize) -> usize {
    if context.mood == Mood::Chaos {
        context.random.usize(1..=context.options.habits.segment_bytes_max.max(len / 10))
    } else {
        len
    }
}

/// The decision of a behaviour about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Keep it.
    Stay,
    /// Drop it, in both directions at once.
    Close,
    /// Reset it.
    Reset,
    /// Vanish: the server is not told.
    Vanish,
}

/// What a client sends and what it expects.
pub(crate) trait Behaviour {
    /// Opens a connection, if it wants one.
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link>;

    /// Parses the inbox, and checks it.
    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>);

    /// Acts by itself.
    fn act(&mut self, link: &mut Link, context: &mut Context<'_>) -> Wish;

    /// The server has ended the connection; checks that this was right.
    fn ended(&mut self, link: &Link, context: &mut Context<'_>);

    /// The server has died. Bytes in both directions may or may not have arrived.
    fn crashed(&mut self);

    /// Whether everything that it must get has arrived.
    fn is_content(&self, ledger: &Ledger) -> bool;

    /// Its name in messages.
    fn name(&self) -> String;
}

/// A client.
pub(crate) struct Client {
    pub(crate) behaviour: Box<dyn Behaviour>,
    pub(crate) link: Option<Link>,
    /// When it next moves bytes or acts.
    pub(crate) next_ms: u64,
    act_ms: u64,
    /// Until then, it neither reads nor writes.
    stalled_until_ms: u64,
}

impl Client {
    pub(crate) fn new(behaviour: impl Behaviour + 'static, start_ms: u64) -> Self {
        Self {
            behaviour: Box::new(behaviour),
            link: None,
            next_ms: start_ms,
            act_ms: start_ms,
            stalled_until_ms: 0,
        }
    }

    /// Neither reads nor writes until then.
    pub(crate) fn stall_until(&mut self, until_ms: u64) {
        self.stalled_until_ms = until_ms;
        self.next_ms = self.next_ms.max(until_ms);
    }

    /// Ends its absence.
    pub(crate) fn wake(&mut self, now_ms: u64) {
        self.stalled_until_ms = self.stalled_until_ms.min(now_ms);
        self.next_ms = self.next_ms.min(now_ms + 1);
    }

    /// Looks at its connection sooner than planned, because something has happened.
    pub(crate) fn nudge(&mut self, now_ms: u64) {
        let has_news = |link: &Link| {
            let wire = link.wire.borrow();
            wire.waiting() > 0 || wire.is_over()
        };
        if self.link.as_ref().is_some_and(has_news) {
            self.next_ms = self.next_ms.min(now_ms + 1).max(self.stalled_until_ms);
        }
    }

    /// Has its turn.
    pub(crate) fn step(&mut self, context: &mut Context<'_>) {
        let now_ms = context.now_ms;
        self.next_ms = self.act_ms.max(now_ms + 1);
        if self.link.is_none() {
            self.link = self.behaviour.begin(context);
        }
        let Some(link) = &mut self.link else {
            self.act_ms = now_ms + 1 + context.random.u64(..=context.options.habits.pause_ms_max);
            self.next_ms = if context.mood == Mood::Leaving { u64::MAX } else { self.act_ms };
            return;
        };
        // A client that was away has much to read, and reads it at once: there may be a Ping in it.
        let catches_up = std::mem::take(&mut self.stalled_until_ms) > 0;
        link.receive(catches_up, context);
        self.behaviour.hear(link, context);
        if link.wire.borrow().is_over() {
            if link.wire.borrow().crashed {
                self.behaviour.crashed();
            } else {
                self.behaviour.ended(link, context);
            }
            link.wire.borrow_mut().close();
            self.link = None;
            self.next_ms = now_ms + 1;
            return;
        }
        if now_ms >= self.act_ms {
            let wish = self.behaviour.act(link, context);
            link.send(context);
            self.grant(wish, context);
            self.act_ms = now_ms + 1 + context.random.u64(..=context.options.habits.pause_ms_max);
        } else {
            link.send(context);
        }
        self.plan(context);
    }

    fn grant(&mut self, wish: Wish, context: &mut Context<'_>) {
        let Some(link) = &self.link else { return };
        match wish {
            Wish::Stay => return,
            Wish::Close => link.wire.borrow_mut().close(),
            Wish::Reset => link.wire.borrow_mut().abort(),
            Wish::Vanish => context.lost.push(Rc::clone(&link.wire)),
        }
        self.link = None;
    }

    fn plan(&mut self, context: &mut Context<'_>) {
        let now_ms = context.now_ms;
        self.next_ms = self.act_ms;
        let Some(link) = &self.link else { return };
        // It continues to read while there are bytes, so that it finds a Ping in time.
        if link.wire.borrow().waiting() > 0 {
            self.next_ms = now_ms + 1;
        }
        if !link.out.is_empty() {
            self.next_ms = now_ms + 1;
        } else if context.happens(context.options.habits.absence_chance) {
            let interval_ms = u64::from(context.options.config.timeouts.heartbeat_interval_ms);
            self.stall_until(now_ms + context.random.u64(..interval_ms * 5));
        } else if context.happens(context.options.habits.stall_chance) {
            // Never within a request, and short enough to answer a Ping before the next one.
            let timeouts = &context.options.config.timeouts;
            let longest = u64::from(timeouts.heartbeat_interval_ms.min(timeouts.request_ms)) * 7 / 10;
            self.stall_until(now_ms + context.random.u64(..longest));
        }
    }
}
