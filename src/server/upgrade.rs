//! From an HTTP request to an open WebSocket: which endpoint, from which id on.

use std::borrow::Cow;
use std::rc::Rc;

use crate::ground::id::NONE;
use crate::hub::engine::{Engine, Stream};
use crate::wire::body::channel_name_error;
use crate::wire::codec::CloseCode;
use crate::wire::handshake;
use crate::wire::http::{Request, Status, percent_decode_segment};
use crate::wire::protocol::Sequence;

use super::connection::{Endpoint, Phase};
use super::exchange::{Exchange, FOREIGN_ORIGIN};
use super::metrics::CloseReason;
use super::paths::Target;
use super::server::Server;
use super::socket::Socket;

impl<S: Socket, E: Engine> Server<S, E> {
    /// Answers a request for a WebSocket. Returns whether it is open now.
    pub(super) fn upgrade(
        &mut self,
        index: u32,
        request: &Request<'_>,
        exchange: &Exchange,
        target: Target<'_>,
    ) -> bool {
        let upgrade = match handshake::parse(request) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                self.reply_detail(index, exchange, error.status(), error.detail(), error.fields());
                return false;
            }
        };
        if request.header_values("origin").next().is_some() && self.allowed_origin(request).is_none() {
            self.metrics.foreign_origins += 1;
            self.reply_detail(index, exchange, Status::FORBIDDEN, FOREIGN_ORIGIN, &[]);
            return false;
        }
        let stream = match self.stream(target) {
            Ok(stream) => stream,
            Err(detail) => {
                self.reply_detail(index, exchange, Status::BAD_REQUEST, detail, &[]);
                return false;
            }
        };
        if self.is_draining() {
            self.reply_detail(
                index,
                exchange,
                Status::SERVICE_UNAVAILABLE,
                "not now",
                &[("Retry-After", "1")],
            );
            return false;
        }
        if let Some(stream) = &stream
            && self.registry.is_full(stream, self.config.limits.channels_max)
        {
            self.metrics.too_many_channels += 1;
            let extra = [("Retry-After", "5")];
            self.reply_detail(index, exchange, Status::SERVICE_UNAVAILABLE, "too many channels", &extra);
            return false;
        }
        let headers = exchange.headers();
        upgrade.write_switching(&headers[..1], None, self.moment.http_date(), &mut self.scratch);
        self.metrics.upgrades += 1;
        match (target, stream) {
            (Target::Events, Some(stream)) => {
                self.open(index, Endpoint::Events);
                self.subscribe(index, &stream, Sequence::Events, request);
                if !has_legal_token(request) {
                    let reason = "Invalid subscribe_token format";
                    self.close(index, CloseCode::from(4400), reason, CloseReason::SubscribeToken);
                }
            }
            (_, Some(stream)) => {
                self.open(index, Endpoint::Channel);
                self.subscribe(index, &stream, Sequence::Messages, request);
            }
            (_, None) => self.open(index, Endpoint::Echo),
        }
        true
    }

    fn stream(&self, target: Target<'_>) -> Result<Option<Stream>, &'static str> {
        match target {
            Target::Events => Ok(Some(Stream::Events)),
            Target::Echo => Ok(None),
            Target::Channel(segment) => {
                let name = percent_decode_segment(segment)
                    .map_err(|_| "the channel's name is not percent-encoded UTF-8")?;
                match channel_name_error(&name, self.config.limits.channel_name_bytes_max) {
                    None => Ok(Some(Stream::Channel(Rc::from(name.as_ref())))),
                    Some(_) => Err("a channel's name has 1 to 200 bytes and no control characters"),
                }
            }
        }
    }

    fn open(&mut self, index: u32, endpoint: Endpoint) {
        self.set_phase(index, Phase::Open(endpoint));
        let now = self.moment.stamp;
        self.at(index).heard = now;
    }

    /// Makes a connection a member of the channel of `stream`. Its cursor stands at
    /// the end, or at the id after which it asked to go on.
    fn subscribe(&mut self, index: u32, stream: &Stream, sequence: Sequence, request: &Request<'_>) {
        debug_assert_eq!(self.at(index).channel, NONE);
        let newest = self.registry.newest(stream);
        let last_seen = request
            .header("last-event-id")
            .filter(|id| !id.is_empty())
            .map(Cow::Borrowed)
            .or_else(|| request.query_value("last_event_id").filter(|id| !id.is_empty()));
        let cursor = match &last_seen {
            None => newest,
            // One that we never gave out says nothing of what its client has: it gets all.
            Some(id) => sequence.parse(id).filter(|id| *id <= newest).unwrap_or(0),
        };
        let (channel, slot) = self.registry.join(stream, index);
        let connection = self.at(index);
        connection.channel = channel;
        connection.slot = slot;
        connection.cursor = cursor;
        if cursor < newest {
            self.queue_flush(index);
        }
    }
}

/// Whether the client names itself as it should: not at all, or by 32 lower-case hex digits.
fn has_legal_token(request: &Request<'_>) -> bool {
    request.query_value("subscribe_token").is_none_or(|token| {
        token.len() == 32 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
