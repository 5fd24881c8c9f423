//! From an HTTP request to an open WebSocket: which endpoint, from which id on.

use std::borrow::Cow;

use crate::hub::channel::Run;
use crate::hub::entry::Encoding;
use crate::store::engine::Stream;
use crate::store::terms::Terms;
use crate::wire::http::decoder::Request;
use crate::wire::protocol::Sequence;
use crate::wire::v1::{Gap, Hello, SUBPROTOCOL};
use crate::wire::websocket::codec::{CloseCode, OpCode};

use super::connections::{CloseReason, Endpoint, Level, Phase, WriteState};
use super::http::Opening;
use super::http::response_context::ResponseContext;
use super::server::Server;
use super::socket::Socket;

impl<S: Socket> Server<S> {
    /// Makes an HTTP connection a WebSocket.
    pub(super) fn upgrade(
        &mut self,
        index: u32,
        request: &Request<'_>,
        response: &ResponseContext,
        Opening { upgrade, stream, has_legal_token }: &Opening<'_>,
    ) {
        let headers = response.headers();
        let is_v1 = stream.is_some() && upgrade.offers(SUBPROTOCOL);
        let protocol = is_v1.then_some(SUBPROTOCOL);
        let deflate = if self.config.compression.over > 0 { upgrade.deflate() } else { None };
        let (date, output) = (self.time.http_date(), self.connections.output(index));
        upgrade.write_switching(&headers[..1], protocol, deflate.as_ref(), date, output);
        let encoding = Encoding::of_websocket(deflate.map(|deflate| deflate.window()));
        self.metrics.upgrades += 1;
        let level = if is_v1 { Level::Replaying } else { Level::Base };
        let endpoint = match stream {
            None => Endpoint::Echo,
            Some(Stream::Events) => Endpoint::Events(level),
            Some(Stream::Channel(_)) => Endpoint::Channel(level),
        };
        self.connections.open(index, endpoint, encoding);
        if !has_legal_token {
            let reason = "Invalid subscribe_token format";
            self.close(index, CloseCode::from(4400), reason, CloseReason::SubscribeToken);
        } else if let Some(stream) = stream {
            self.subscribe(index, stream, request);
        }
    }

    /// Makes a connection a member of the channel of `stream`. Its cursor stands at
    /// the end, or at the id after which it asked to go on.
    fn subscribe(&mut self, index: u32, stream: &Stream, request: &Request<'_>) {
        let Phase::Open(endpoint) = self.connections.at(index).phase() else { return };
        let Some((sequence, level)) = endpoint.subscription() else { return };
        let kept = self.kept(stream);
        let start = Start::of(request, sequence, kept, self.store.terms());
        let place = self.hub.join(stream, index);
        let cursor = match start {
            Start::Live => kept.newest,
            Start::After(id) => id,
            // A client that is not told of the gap gets the same.
            Start::Gap { agreed, .. } => agreed.max(kept.oldest.saturating_sub(1)),
        };
        self.connections.subscribe(index, place, cursor);
        if level == Level::Base {
            if cursor < kept.newest {
                self.connections.queue_flush(index);
            }
        } else {
            self.send_hello(index, stream, kept, &start);
        }
    }

    /// The ids of `stream` that can be replayed.
    fn kept(&self, stream: &Stream) -> Kept {
        let oldest = self.store.oldest(stream);
        let newest = self.hub.newest(stream);
        // The engine may be ahead of what it has told.
        Kept { oldest: oldest.min(newest + 1), newest }
    }

    /// Sends `hello` to a client of `polecat.v1`, which then goes live, is told of a gap, or waits for its history.
    fn send_hello(&mut self, index: u32, stream: &Stream, kept: Kept, start: &Start<'_>) {
        let timestamp = self.time.timestamp();
        let Some(place) = self.connections.at(index).place(&timestamp) else { return };
        let hello = Hello {
            epoch: self.store.terms().epoch(),
            channel: match stream {
                Stream::Events => None,
                Stream::Channel(name) => Some(name),
            },
            oldest: kept.oldest,
            newest: kept.newest,
            heartbeat_interval_ms: self.config.timeouts.heartbeat_interval_ms,
            message_bytes_max: self.config.limits.message_bytes_max,
            idempotency_window_ms: self.store.idempotency_window_ms(),
            stored: self.store.is_storing(),
        };
        let mut text = Vec::new();
        place.write_hello(&hello, &mut text);
        self.write_message(index, OpCode::Text, &text);
        match start {
            Start::Live => self.go_live(index),
            Start::Gap { requested, agreed } => {
                let gap = Gap { requested, agreed: *agreed, oldest: kept.oldest, newest: kept.newest };
                self.write_text(index, |out| place.write_gap(&gap, out));
                self.connections.queue_flush(index);
            }
            Start::After(from) => {
                self.connections.await_history(index);
                let connection = self.connections.id(index);
                self.store.ask_for_count(connection, *from, kept.newest);
            }
        }
    }

    /// Moves the cursor of a subscriber that has got everything to the newest id of its sequence. Its own channel may
    /// be quiet while others are not, and it is to resume from an id after which nothing is missing.
    pub(super) fn note_caught_up(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let cursor = connection.cursor();
        if let Some(channel) = connection.channel()
            && connection.write_state() == WriteState::Ready
            && matches!(self.hub.after(channel, cursor), Run::End)
        {
            let newest = self.hub.newest_for(channel);
            self.connections.set_cursor(index, cursor.max(newest));
        }
    }

    /// Tells a client of `polecat.v1` that is so far behind that retention has
    /// overtaken it. All others just do not get what is gone.
    pub(super) fn notice_gap(&mut self, index: u32) {
        let connection = self.connections.at(index);
        let Phase::Open(endpoint) = connection.phase() else { return };
        let Some(channel) = connection.channel() else { return };
        let cursor = connection.cursor();
        let Kept { oldest, newest } = self.kept(self.hub.stream(channel));
        if cursor + 1 >= oldest {
            return;
        }
        self.connections.set_cursor(index, oldest - 1);
        let timestamp = self.time.timestamp();
        if let Some((sequence, Level::Replaying | Level::Live)) = endpoint.subscription()
            && let Some(place) = self.connections.at(index).place(&timestamp)
        {
            let mut requested = Vec::new();
            sequence.write(cursor, &mut requested);
            let requested = String::from_utf8_lossy(&requested);
            let gap = Gap { requested: &requested, agreed: cursor, oldest, newest };
            self.write_text(index, |out| place.write_gap(&gap, out));
            self.connections.push_output(index);
        }
    }

    /// Tells a client of `polecat.v1` that messages are live from now on.
    pub(super) fn go_live(&mut self, index: u32) {
        let timestamp = self.time.timestamp();
        if let Some(place) = self.connections.at(index).place(&timestamp) {
            self.connections.go_live(index);
            self.write_text(index, |out| place.write_live(out));
        }
    }
}

/// The ids that can be replayed: `oldest..=newest`, none if `oldest` is above.
#[derive(Debug, Clone, Copy)]
struct Kept {
    oldest: u64,
    newest: u64,
}

/// Where a subscriber begins.
#[derive(Debug)]
enum Start<'b> {
    /// It asked for nothing.
    Live,
    /// After an id that it has.
    After(u64),
    /// It named an id that does not say what it has, or something after it is no longer kept.
    Gap {
        /// What it named.
        requested: Cow<'b, str>,
        /// The last id that means the same to it and here.
        agreed: u64,
    },
}

impl<'b> Start<'b> {
    /// An id is believed if its term is known and has given it, and if all that came after it is kept; one that
    /// comes without a term, if it could be ours. A term need not have begun below the id: after
    /// a restart that has lost nothing, older ids are named with the new term, too.
    fn of(request: &Request<'b>, sequence: Sequence, kept: Kept, terms: &Terms) -> Self {
        // One that is not UTF-8 counts as an id that we never gave out, not as none.
        let last_seen = request
            .header_values("last-event-id")
            .next()
            .filter(|id| !id.is_empty())
            .map(String::from_utf8_lossy)
            .or_else(|| request.query_value("last_event_id").filter(|id| !id.is_empty()));
        let Some(last_seen) = last_seen else { return Self::Live };
        let id = sequence.parse(&last_seen);
        let agreed = id.and_then(|id| match request.query_value("epoch").filter(|epoch| !epoch.is_empty()) {
            None => (id <= kept.newest).then_some(id),
            // Whatever its term is, number 0 is before the first.
            Some(epoch) => Some(id.min(kept.newest).min(terms.agreed(&epoch, sequence).unwrap_or(0))),
        });
        match agreed {
            Some(agreed) if id == Some(agreed) && agreed + 1 >= kept.oldest => Self::After(agreed),
            _ => Self::Gap { requested: last_seen, agreed: agreed.unwrap_or(0) },
        }
    }
}
