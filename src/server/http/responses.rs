//! How a response is sent. Answers of one connection leave in the order of its
//! requests, whether they are ready at once or wait for the engine.

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::server::connections::{CloseReason, OWN_BYTES, ReadState};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::wire::http::decoder::{Refusal, Response, Status, write_continue};
use crate::wire::protocol::CorrelationId;

use super::outcome::{JSON, detail_body};
use crate::server::response_context::ResponseContext;

/// Bytes at which a page of connections or channels ends.
pub(in crate::server) const PAGE_BYTES_MAX: usize = 256 << 10;

/// Answers input that is not a request, or never became one, and ends the connection.
pub(in crate::server) fn refuse<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    refusal: &Refusal,
    head_only: bool,
    reason: CloseReason,
) {
    let response = last_response(owners, head_only);
    if let Some(limit) = refusal.limit {
        owners.metrics.limits.count(limit);
    }
    // The request is not at fault, and may be sent again.
    let extra: &[_] = match refusal.status {
        Status::SERVICE_UNAVAILABLE => &[("Retry-After", "1")],
        _ => &[],
    };
    reply_detail(owners, index, &response, refusal.status, refusal.detail, extra);
    if !owners.connections.at(index).awaits_response() {
        owners.close_after_flush(index, reason);
    }
}

/// The context of a response on a connection on which nothing more is read.
fn last_response<S: Socket>(owners: &mut Owners<S>, head_only: bool) -> ResponseContext {
    ResponseContext::last(CorrelationId::made_up(owners.random.u128(..)), head_only)
}

/// Says to a new connection why it is not let in.
pub(in crate::server) fn reject<S: Socket>(owners: &mut Owners<S>, index: u32, limit: Limit) {
    let response = last_response(owners, false);
    let extra = [("Retry-After", "5")];
    let detail = if limit == Limit::Memory { "too little memory is left" } else { "too many connections" };
    reply_detail(owners, index, &response, Status::SERVICE_UNAVAILABLE, detail, &extra);
    owners.close_after_flush(index, CloseReason::NotAdmitted);
    owners.send_output(index);
}

/// Notes that an answer of the engine is awaited.
pub(in crate::server) fn await_answer<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    response: ResponseContext,
) -> Pending {
    let connection = owners.connections.expect_response(index, response.keep_alive);
    Pending::Request { connection, response }
}

/// Sends the engine's answer to the request that it belongs to.
pub(in crate::server) fn answer<S: Socket>(
    owners: &mut Owners<S>,
    connection: Id,
    response: &ResponseContext,
    status: Status,
    body: &[u8],
    extra: &[(&str, &str)],
) {
    answer_by(owners, connection, |owners| {
        write_now(owners, connection.index, response, status, body, extra);
        owners.connections.push_output(connection.index);
    });
}

/// The same for a body that others are sent, too, of which no copy is made.
pub(in crate::server) fn answer_shared<S: Socket>(
    owners: &mut Owners<S>,
    connection: Id,
    response: &ResponseContext,
    body: Frame,
    extra: &[(&str, &str)],
) {
    answer_by(owners, connection, |owners| {
        let index = connection.index;
        let head_only = ResponseContext { head_only: true, ..response.clone() };
        write_now(owners, index, &head_only, Status::OK, &body, extra);
        owners.connections.push_output(index);
        if !response.head_only {
            owners.connections.push_shared(index, body);
        }
    });
}

/// Has a whole answer put behind everything else that is sent to a connection, if it is still there.
fn answer_by<S: Socket>(owners: &mut Owners<S>, connection: Id, push: impl FnOnce(&mut Owners<S>)) {
    if owners.connections.find(connection).is_some() {
        push(owners);
        owners.connections.queue_flush(connection.index);
        answered(owners, connection);
    }
}

/// The whole answer to a request that had to wait is on its way.
pub(in crate::server) fn answered<S: Socket>(owners: &mut Owners<S>, connection: Id) {
    let index = connection.index;
    if !owners.connections.note_response(index) {
        return;
    }
    owners.connections.end_wait_for_responses(index);
    settle_request(owners, index);
}

/// Answers a request that needs nothing of the engine. It still has to wait for
/// the answers to those before it.
pub(in crate::server) fn reply<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    response: &ResponseContext,
    status: Status,
    body: &[u8],
    extra: &[(&str, &str)],
) {
    if owners.connections.at(index).awaits_response() {
        let deferred = owners.connections.deferred(index);
        write_whole(response, status, body, extra, owners.time.http_date(), deferred);
        owners.connections.await_response(index);
    } else {
        write_now(owners, index, response, status, body, extra);
    }
    if !response.keep_alive {
        owners.connections.stop_reading(index);
    }
}

/// The same for a body that is part of the binary, of which no copy is made.
pub(in crate::server) fn reply_static<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    response: &ResponseContext,
    status: Status,
    body: &'static [u8],
    extra: &[(&str, &str)],
) {
    debug_assert!(!owners.connections.at(index).awaits_response());
    let head_only = ResponseContext { head_only: true, ..response.clone() };
    reply(owners, index, &head_only, status, body, extra);
    if !response.head_only {
        owners.connections.push_output(index);
        owners.connections.push_static(index, body);
    }
}

/// The same for a body `{"detail": …}`.
pub(in crate::server) fn reply_detail<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    response: &ResponseContext,
    status: Status,
    detail: &str,
    extra: &[(&str, &str)],
) {
    reply(owners, index, response, status, &detail_body(detail), extra);
}

fn write_now<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    response: &ResponseContext,
    status: Status,
    body: &[u8],
    extra: &[(&str, &str)],
) {
    let output = owners.connections.output(index);
    write_whole(response, status, body, extra, owners.time.http_date(), output);
}

/// Brings the phase of an HTTP connection in line with what it is doing.
pub(in crate::server) fn settle_request<S: Socket>(owners: &mut Owners<S>, index: u32) {
    let draining = owners.is_draining();
    let connection = owners.connections.at(index);
    if !connection.is_http() {
        return;
    }
    if connection.read_state() == ReadState::Closed && !connection.awaits_response() {
        owners.close_after_flush(index, CloseReason::HttpDone);
        owners.connections.queue_flush(index);
    } else if connection.is_busy() {
        owners.connections.note_request(index);
    } else if draining {
        owners.close_after_flush(index, CloseReason::Shutdown);
        owners.connections.queue_flush(index);
    } else {
        owners.connections.keep_alive(index);
    }
}

/// Tells a client that waits for it to send the body of its request.
pub(super) fn reply_continue<S: Socket>(owners: &mut Owners<S>, index: u32) {
    if !owners.connections.at(index).awaits_response() {
        return write_continue(owners.connections.output(index));
    }
    write_continue(owners.connections.deferred(index));
    owners.connections.await_response(index);
}

/// Appends a whole response to `out`.
fn write_whole(
    response: &ResponseContext,
    status: Status,
    body: &[u8],
    extra: &[(&str, &str)],
    date: &str,
    out: &mut Vec<u8>,
) {
    let mut headers = Vec::with_capacity(extra.len() + 7);
    headers.extend_from_slice(&response.headers());
    headers.retain(|(_, value)| !value.is_empty());
    headers.extend_from_slice(extra);
    let has_type = extra.iter().any(|(name, _)| *name == "Content-Type");
    Response {
        status,
        content_type: if has_type || body.is_empty() { "" } else { JSON },
        body,
        extra: &headers,
        keep_alive: response.keep_alive,
        head_only: response.head_only,
    }
    .write(date, out);
}

/// Bytes at which a page of connections or channels ends. If there is no room for more, it is as much
/// as each connection may have unsent in any case.
pub(super) fn page_bytes_max<S: Socket>(owners: &Owners<S>) -> usize {
    if owners.has_room() { PAGE_BYTES_MAX } else { OWN_BYTES / 2 }
}
