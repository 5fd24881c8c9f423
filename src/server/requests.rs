//! Requests: which path means what, and how a response is sent. Answers of one connection leave in the order of its
//! requests, whether they are ready at once or wait for the engine.

use std::borrow::Cow;

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::wire::http::decoder::{
    BodyEnd, Refusal, Request, RequestDecoder, RequestStep, Response, Status, Version, begins_head,
    write_continue,
};
use crate::wire::http::gzip::Gzip;
use crate::wire::protocol::CorrelationId;

use super::connections::{CloseReason, ReadState};
use super::http::list::{List, What};
use super::http::response_context::{Content, ResponseContext};
use super::http::{self, Context, JSON, Outcome, Reply, detail_body};
use super::reading::Progress;
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

/// A body that is part of the binary and longer than this is not copied.
const COPIED_BYTES_MAX: usize = 256;

impl<S: Socket> Server<S> {
    pub(super) fn decode_request(
        &mut self,
        index: u32,
        decoder: &mut RequestDecoder,
        input: &mut [u8],
    ) -> Progress {
        if self.connections.at(index).awaits_response() && !may_be_append(input) {
            self.connections.await_response(index);
            return Progress::NeedMore;
        }
        match decoder.decode(input, &self.config.limits) {
            Ok(RequestStep::NeedMore { send_continue }) => {
                if send_continue {
                    self.reply_continue(index);
                }
                Progress::NeedMore
            }
            Ok(RequestStep::Request { request, consumed }) => {
                self.metrics.requests += 1;
                self.begin_request(index);
                if self.route(index, &request) {
                    Progress::Upgraded(consumed)
                } else {
                    Progress::Consumed(consumed)
                }
            }
            Err(refusal) => {
                self.metrics.requests += 1;
                self.refuse(index, &refusal, begins_head(input), CloseReason::HttpRefused);
                Progress::NeedMore
            }
        }
    }

    fn reply_continue(&mut self, index: u32) {
        if !self.connections.at(index).awaits_response() {
            return write_continue(self.connections.output(index));
        }
        write_continue(self.connections.deferred(index));
        self.connections.await_response(index);
    }

    /// A request that is there whole sets the clock back for the next one.
    fn begin_request(&mut self, index: u32) {
        self.connections.begin_request(index);
        if self.connections.at(index).responses_awaited() >= self.config.limits.pending_requests_max {
            self.connections.await_response(index);
            self.metrics.limits.count(Limit::PendingRequests);
        }
    }

    /// Answers input that is not a request, or never became one, and ends the connection.
    pub(super) fn refuse(&mut self, index: u32, refusal: &Refusal, head_only: bool, reason: CloseReason) {
        let response = self.last_response(head_only);
        if let Some(limit) = refusal.limit {
            self.metrics.limits.count(limit);
        }
        // The request is not at fault, and may be sent again.
        let extra: &[_] = match refusal.status {
            Status::SERVICE_UNAVAILABLE => &[("Retry-After", "1")],
            _ => &[],
        };
        self.reply_detail(index, &response, refusal.status, refusal.detail, extra);
        if !self.connections.at(index).awaits_response() {
            self.close_after_flush(index, reason);
        }
    }

    /// Answers a request, or has it answered. Returns whether the connection was upgraded to a WebSocket.
    fn route(&mut self, index: u32, request: &Request<'_>) -> bool {
        log::debug!("connection {index} requests {} {}", request.method.as_str(), request.path);
        let is_draining = self.is_draining();
        let random = &mut self.random;
        let made_up = || CorrelationId::made_up(random.u128(..));
        let mut response = ResponseContext::of(request, &self.config, is_draining, made_up);
        let (connections, limits) = (&mut self.connections, &self.config.limits);
        let outcome = http::handle(
            request,
            &mut Context {
                config: &self.config,
                response: &response,
                hub: &self.hub,
                health: self.store.health(),
                is_draining,
                time: &mut self.time,
                may_send: &mut || connections.may_send(index, limits),
            },
        );
        match outcome {
            Outcome::Reply(reply) => self.send_reply(index, response, reply),
            Outcome::Publish { record, key } => {
                let pending = self.await_answer(index, response);
                self.store.append(record, key, Some(pending));
            }
            Outcome::List { what, may_compress } => {
                if matches!(what, What::Records(_)) {
                    response.content = Content::List;
                }
                let end = match request.version {
                    Version::Http10 => BodyEnd::Close,
                    Version::Http11 => BodyEnd::Chunked,
                };
                self.add_list(index, List::new(response, what, end, may_compress.then(Gzip::default)));
            }
            Outcome::Inspect(inspection) => self.ask_inspection(index, response, inspection),
            Outcome::Open(opening) => {
                self.upgrade(index, request, &response, &opening);
                return true;
            }
        }
        false
    }

    /// Sends a response that is there whole.
    fn send_reply(&mut self, index: u32, mut response: ResponseContext, reply: Reply<'_>) {
        reply.limits.iter().for_each(|limit| self.metrics.limits.count(*limit));
        self.metrics.foreign_origins += u64::from(reply.is_foreign);
        if reply.is_page {
            response.content = Content::Page;
        }
        let fields = reply.fields.iter().map(|(name, value)| (*name, &**value)).collect::<Vec<_>>();
        match reply.body {
            Cow::Borrowed(body) if body.len() > COPIED_BYTES_MAX => {
                self.reply_static(index, &response, reply.status, body, &fields);
            }
            body => self.reply(index, &response, reply.status, &body, &fields),
        }
    }

    /// The context of a response on a connection on which nothing more is read.
    fn last_response(&mut self, head_only: bool) -> ResponseContext {
        ResponseContext::last(CorrelationId::made_up(self.random.u128(..)), head_only)
    }

    /// Says to a new connection why it is not let in.
    pub(super) fn reject(&mut self, index: u32, limit: Limit) {
        let response = self.last_response(false);
        let extra = [("Retry-After", "5")];
        let detail =
            if limit == Limit::Memory { "too little memory is left" } else { "too many connections" };
        self.reply_detail(index, &response, Status::SERVICE_UNAVAILABLE, detail, &extra);
        self.close_after_flush(index, CloseReason::NotAdmitted);
        self.send_output(index);
    }

    /// Notes that an answer of the engine is awaited.
    pub(super) fn await_answer(&mut self, index: u32, response: ResponseContext) -> Pending {
        let connection = self.connections.expect_response(index, response.keep_alive);
        Pending::Request { connection, response }
    }

    /// Sends the engine's answer to the request that it belongs to.
    pub(super) fn answer(
        &mut self,
        connection: Id,
        response: &ResponseContext,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        self.answer_by(connection, |server| {
            server.write_response(connection.index, response, status, body, extra);
            server.connections.push_output(connection.index);
        });
    }

    /// The same for a body that others are sent, too, of which no copy is made.
    pub(super) fn answer_shared(
        &mut self,
        connection: Id,
        response: &ResponseContext,
        body: Frame,
        extra: &[(&str, &str)],
    ) {
        self.answer_by(connection, |server| {
            let index = connection.index;
            let head_only = ResponseContext { head_only: true, ..response.clone() };
            server.write_response(index, &head_only, Status::OK, &body, extra);
            server.connections.push_output(index);
            if !response.head_only {
                server.connections.push_shared(index, body);
            }
        });
    }

    /// Has a whole answer put behind everything else that is sent to a connection, if it is still there.
    fn answer_by(&mut self, connection: Id, push: impl FnOnce(&mut Self)) {
        if self.connections.find(connection).is_some() {
            push(self);
            self.connections.queue_flush(connection.index);
            self.answered(connection);
        }
    }

    /// The whole answer to a request that had to wait is on its way.
    pub(super) fn answered(&mut self, connection: Id) {
        let index = connection.index;
        if !self.connections.note_response(index) {
            return;
        }
        self.connections.end_wait_for_responses(index);
        self.settle_request(index);
    }

    /// Answers a request that needs nothing of the engine. It still has to wait for
    /// the answers to those before it.
    pub(super) fn reply(
        &mut self,
        index: u32,
        response: &ResponseContext,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        if self.connections.at(index).awaits_response() {
            let deferred = self.connections.deferred(index);
            write_response(response, status, body, extra, self.time.http_date(), deferred);
            self.connections.await_response(index);
        } else {
            self.write_response(index, response, status, body, extra);
        }
        if !response.keep_alive {
            self.connections.stop_reading(index);
        }
    }

    /// The same for a body that is part of the binary, of which no copy is made.
    pub(super) fn reply_static(
        &mut self,
        index: u32,
        response: &ResponseContext,
        status: Status,
        body: &'static [u8],
        extra: &[(&str, &str)],
    ) {
        debug_assert!(!self.connections.at(index).awaits_response());
        let head_only = ResponseContext { head_only: true, ..response.clone() };
        self.reply(index, &head_only, status, body, extra);
        if !response.head_only {
            self.connections.push_output(index);
            self.connections.push_static(index, body);
        }
    }

    /// The same for a body `{"detail": …}`.
    pub(super) fn reply_detail(
        &mut self,
        index: u32,
        response: &ResponseContext,
        status: Status,
        detail: &str,
        extra: &[(&str, &str)],
    ) {
        self.reply(index, response, status, &detail_body(detail), extra);
    }

    fn write_response(
        &mut self,
        index: u32,
        response: &ResponseContext,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        let output = self.connections.output(index);
        write_response(response, status, body, extra, self.time.http_date(), output);
    }

    /// Brings the phase of an HTTP connection in line with what it is doing.
    pub(super) fn settle_request(&mut self, index: u32) {
        let draining = self.is_draining();
        let connection = self.connections.at(index);
        if !connection.is_http() {
            return;
        }
        if connection.read_state() == ReadState::Closed && !connection.awaits_response() {
            self.close_after_flush(index, CloseReason::HttpDone);
            self.connections.queue_flush(index);
        } else if connection.is_busy() {
            self.connections.note_request(index);
        } else if draining {
            self.close_after_flush(index, CloseReason::Shutdown);
            self.connections.queue_flush(index);
        } else {
            self.connections.keep_alive(index);
        }
    }
}

/// Appends a whole response to `out`.
fn write_response(
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

/// Whether the request that begins here may be a POST. The answers to POSTs come in the order of the requests, so that
/// several may be waited for at once. All other requests are looked at only when the answers before them were sent.
fn may_be_append(input: &[u8]) -> bool {
    const POST: &[u8] = b"POST ";
    let start = input.trim_ascii_start();
    start[..start.len().min(POST.len())] == POST[..start.len().min(POST.len())]
}
