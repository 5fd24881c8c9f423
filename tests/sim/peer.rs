//! A client that is fully controlled by a test.

use crate::model::Run;
use crate::pipe::{Manners, SharedWire};
use crate::wire::{Response, push_frame, request, take_frame, take_response, upgrade, upgrade_v1};
use crate::world::World;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// One connection, controlled by a test.
pub(crate) struct Peer {
    pub(crate) wire: SharedWire,
    inbox: Vec<u8>,
}

impl Peer {
    /// Connects, with the world's manners.
    pub(crate) fn connect(world: &mut World) -> Self {
        let manners = world.options.manners.clone();
        Self::with_manners(manners, world)
    }

    pub(crate) fn with_manners(manners: Manners, world: &mut World) -> Self {
        Self { wire: world.connect(manners), inbox: Vec::new() }
    }

    /// Opens a WebSocket, with the turns that this needs.
    pub(crate) fn open(target: &str, world: &mut World) -> Self {
        let mut peer = Self::connect(world);
        peer.shake_hands(target, None, world);
        peer
    }

    pub(crate) fn shake_hands(&mut self, target: &str, last_event_id: Option<&str>, world: &mut World) {
        self.say(&upgrade(target, last_event_id));
        self.await_upgrade(world);
    }

    /// Opens a WebSocket of `polecat.v1`.
    pub(crate) fn open_v1(target: &str, world: &mut World) -> Self {
        let mut peer = Self::connect(world);
        peer.say(&upgrade_v1(target));
        peer.await_upgrade(world);
        peer
    }

    fn await_upgrade(&mut self, world: &mut World) {
        while self.wire.borrow().first_write.is_none() {
            world.turn();
        }
        self.hear();
        let response = take_response(&mut self.inbox, false).expect("an answer");
        assert_eq!(response.status, 101);
    }

    /// Sends all of `bytes`.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        assert_eq!(self.offer(bytes), bytes.len(), "there is room");
    }

    /// Sends as much of `bytes` as there is room for.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> usize {
        self.wire.borrow_mut().send(&mut bytes.to_vec().into(), bytes.len())
    }

    pub(crate) fn say_frame(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = Vec::new();
        push_frame(opcode, true, payload, [9, 8, 7, 6], &mut frame);
        self.say(&frame);
    }

    /// Publishes on its channel.
    pub(crate) fn publish(&mut self, content: &str) {
        self.say_frame(TEXT, format!("{{\"type\":\"message\",\"content\":\"{content}\"}}").as_bytes());
    }

    /// Posts to a channel.
    pub(crate) fn post(&mut self, channel: &str, content: &str) {
        self.say(&post(channel, content));
    }

    fn hear(&mut self) {
        let bytes = self.wire.borrow_mut().receive(usize::MAX);
        self.inbox.extend_from_slice(&bytes);
    }

    /// Takes the bytes that are left and not parsed.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// Receives at most `len` bytes, and returns how many there were.
    pub(crate) fn sip(&mut self, len: usize) -> usize {
        let bytes = self.wire.borrow_mut().receive(len);
        self.inbox.extend_from_slice(&bytes);
        bytes.len()
    }

    /// Receives all available bytes, and returns the complete frames.
    pub(crate) fn frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.hear();
        std::iter::from_fn(|| take_frame(&mut self.inbox)).collect()
    }

    /// The same, and answers Pings; returns the messages.
    pub(crate) fn texts(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        for (opcode, payload) in self.frames() {
            match opcode {
                TEXT => texts.push(String::from_utf8(payload).unwrap()),
                PING => self.say_frame(PONG, &payload),
                PONG => {}
                other => panic!("opcode {other}: {}", String::from_utf8_lossy(&payload)),
            }
        }
        texts
    }

    /// Receives all available bytes, and returns the complete responses.
    pub(crate) fn responses(&mut self) -> Vec<Response> {
        self.hear();
        std::iter::from_fn(|| take_response(&mut self.inbox, false)).collect()
    }

    /// Whether everything was parsed.
    pub(crate) fn is_clean(&self) -> bool {
        self.inbox.is_empty() && self.wire.borrow().waiting() == 0
    }

    pub(crate) fn is_over(&self) -> bool {
        self.wire.borrow().is_over()
    }

    /// What a subscriber that did not ask for a replay must see from its join on.
    pub(crate) fn run(&self, stream: &str, world: &World) -> Run {
        let wire = self.wire.borrow();
        let (newest, era) = (wire.first_write.expect("it is open").newest, wire.host().era.get());
        Run::after(&world.ledger.borrow(), era, stream, newest[usize::from(stream.is_empty())])
    }
}

/// A request that publishes; its correlation id is the key at the beginning of `content`.
pub(crate) fn post(channel: &str, content: &str) -> Vec<u8> {
    let body = format!("{{\"channel_id\":\"{channel}\",\"author\":\"a\",\"content\":\"{content}\"}}");
    let key = content.split(' ').next().unwrap_or_default();
    request("POST", "/api/messages", key, "", &body)
}
