//! What is published by POST, on its way to the engine.

use std::rc::Rc;

use crate::base::limit::Limit;
use crate::store::engine::Record;
use crate::wire::body::{PostedEvent, PostedMessage, exceeded};
use crate::wire::http::decoder::{Request, Status};
use crate::wire::protocol::Event;
use crate::wire::v1::is_key;

use super::exchange::{Exchange, FOREIGN_ORIGIN};
use super::server::Server;
use super::socket::Socket;

impl<S: Socket> Server<S> {
    pub(super) fn post(&mut self, index: u32, request: &Request<'_>, exchange: Exchange) {
        if self.is_foreign(request, &exchange) {
            return self.reply_detail(index, &exchange, Status::FORBIDDEN, FOREIGN_ORIGIN, &[]);
        }
        if request.header("content-length").is_none() && request.header("transfer-encoding").is_none() {
            let detail = "Content-Length is required";
            return self.reply_detail(index, &exchange, Status::LENGTH_REQUIRED, detail, &[]);
        }
        if !is_json(request) {
            let detail = "Content-Type must be application/json, without a Content-Encoding";
            return self.reply_detail(index, &exchange, Status::UNSUPPORTED_MEDIA_TYPE, detail, &[]);
        }
        if !self.connections.may_send(index, &self.config.limits) {
            self.metrics.limits.count(Limit::MessagesPerSecond);
            let extra = [("Retry-After", "1")];
            return self.reply_detail(
                index,
                &exchange,
                Status::TOO_MANY_REQUESTS,
                "too many messages",
                &extra,
            );
        }
        let limits = &self.config.limits;
        let timestamp = self.moment.timestamp();
        let record = if request.path == "/api/messages" {
            PostedMessage::parse(request.body, limits)
                .map(|posted| Record::Message(posted.draft.into_message(posted.channel_id, timestamp)))
        } else {
            PostedEvent::parse(request.body, limits).map(|posted| {
                let PostedEvent { kind, payload, correlation_id } = posted;
                let correlation_id = correlation_id.unwrap_or_else(|| exchange.correlation_id.clone());
                Record::Event(Event { kind, payload, correlation_id, timestamp })
            })
        };
        match record {
            Ok(record) => {
                let Ok(key) = idempotency_key(request) else {
                    let detail = "Idempotency-Key must be given once, with 1 to 255 bytes of UTF-8";
                    return self.reply_detail(index, &exchange, Status::BAD_REQUEST, detail, &[]);
                };
                let pending = self.await_answer(index, exchange);
                self.store.append(record, key.map(Rc::from), Some(pending));
            }
            Err(errors) => {
                exceeded(&errors).for_each(|limit| self.metrics.limits.count(limit));
                self.reply_errors(index, &exchange, &errors);
            }
        }
    }
}

/// The key under which the request wants to be stored once, if it has one.
fn idempotency_key<'b>(request: &Request<'b>) -> Result<Option<&'b str>, ()> {
    match (request.header_values("idempotency-key").count(), request.header("idempotency-key")) {
        (0, _) | (1, Some("")) => Ok(None),
        (1, Some(key)) if is_key(key) => Ok(Some(key)),
        _ => Err(()),
    }
}

/// Whether the body may be read as JSON: it says so, or says nothing.
fn is_json(request: &Request<'_>) -> bool {
    let coding = request.header("content-encoding").unwrap_or_default();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return false;
    }
    let Some(content_type) = request.header("content-type") else { return true };
    let essence = content_type.split(';').next().unwrap_or_default().trim().as_bytes();
    let (kind, name) = essence.split_at(essence.len().min(b"application/".len()));
    kind.eq_ignore_ascii_case(b"application/")
        && (name.eq_ignore_ascii_case(b"json")
            || name.last_chunk::<5>().is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json")))
}
