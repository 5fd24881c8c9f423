//! Publishing by POST.

use std::rc::Rc;

use crate::base::limit::Limit;
use crate::store::engine::Record;
use crate::wire::body::{PostedEvent, PostedMessage, exceeded};
use crate::wire::http::decoder::{Request, Status};
use crate::wire::protocol::Event;
use crate::wire::v1::is_key;

use super::context::Context;
use super::origins::refuse_foreign;
use super::outcome::{Outcome, Reply};

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    Message,
    Event,
}

/// A record to be stored, or why it is refused.
pub(super) fn publish<'b>(
    request: &Request<'b>,
    context: &mut Context<'_>,
    posted: Posted,
) -> Result<Outcome<'b>, Reply<'b>> {
    refuse_foreign(request, context.response)?;
    if request.header("content-length").is_none() && request.header("transfer-encoding").is_none() {
        return Err(Reply::detail(Status::LENGTH_REQUIRED, "Content-Length is required"));
    }
    if !is_json(request) {
        let detail = "Content-Type must be application/json, without a Content-Encoding";
        return Err(Reply::detail(Status::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if !(context.may_send)() {
        let reply = Reply::detail(Status::TOO_MANY_REQUESTS, "too many messages");
        return Err(reply.with("Retry-After", "1").for_limit(Limit::MessagesPerSecond));
    }
    let (limits, timestamp) = (&context.config.limits, context.time.timestamp());
    let record = match posted {
        Posted::Message => PostedMessage::parse(request.body, limits)
            .map(|posted| Record::Message(posted.draft.into_message(posted.channel_id, timestamp))),
        Posted::Event => PostedEvent::parse(request.body, limits).map(|posted| {
            let PostedEvent { kind, payload, correlation_id } = posted;
            let correlation_id = correlation_id.unwrap_or_else(|| context.response.correlation_id.clone());
            Record::Event(Event { kind, payload, correlation_id, timestamp })
        }),
    };
    let record = record.map_err(|errors| {
        let limits = exceeded(&errors).collect();
        Reply { limits, ..Reply::errors(&errors) }
    })?;
    let key = idempotency_key(request).map_err(|()| {
        let detail = "Idempotency-Key must be given once, with 1 to 255 bytes of UTF-8";
        Reply::detail(Status::BAD_REQUEST, detail)
    })?;
    Ok(Outcome::Publish { record, key: key.map(Rc::from) })
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
