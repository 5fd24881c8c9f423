//! Requests: which path means what, and how a response gets on its way. Answers
//! of one connection leave in the order of its requests, whether they are ready
//! at once or wait for the engine.

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::store::engine::Health;
use crate::wire::body::{ChannelRange, ConnectionRange, FieldErrors};
use crate::wire::http::decoder::{
    Method, Refusal, Request, RequestDecoder, Response, Status, Step, begins_head, write_continue,
};
use crate::wire::protocol::{CorrelationId, write_json};

use super::connections::{CloseReason, ReadState};
use super::cors::is_preflight;
use super::exchange::{Content, Exchange, JSON, detail_body, health_payload};
use super::inspections::Inspection;
use super::pages::{Page, page};
use super::paths::{endpoint, methods};
use super::reading::Progress;
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

/// The interface of this server as OpenAPI describes it, with the messages of its WebSockets.
const SCHEMA: &str = include_str!("schema.json");

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
            Ok(Step::NeedMore { send_continue }) => {
                if send_continue {
                    self.reply_continue(index);
                }
                Progress::NeedMore
            }
            Ok(Step::Request { request, consumed }) => {
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
        let id = self.connections.id(index);
        write_continue(self.held.entry(id).or_default());
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

    /// Answers what is no request, or never became one, and ends the connection.
    pub(super) fn refuse(&mut self, index: u32, refusal: &Refusal, head_only: bool, reason: CloseReason) {
        let exchange = self.last_exchange(head_only);
        if let Some(limit) = refusal.limit {
            self.metrics.limits.count(limit);
        }
        // It is no fault of the request: it may come again.
        let extra: &[_] = match refusal.status {
            Status::SERVICE_UNAVAILABLE => &[("Retry-After", "1")],
            _ => &[],
        };
        self.reply_detail(index, &exchange, refusal.status, refusal.detail, extra);
        if !self.connections.at(index).awaits_response() {
            self.close_after_flush(index, reason);
        }
    }

    /// Answers a request, or asks the engine. Returns whether the connection was
    /// upgraded to a WebSocket.
    fn route(&mut self, index: u32, request: &Request<'_>) -> bool {
        log::debug!("connection {index} requests {} {}", request.method.as_str(), request.path);
        let exchange = self.exchange(request);
        if matches!(request.method, Method::Other(_)) {
            self.reply_detail(index, &exchange, Status::NOT_IMPLEMENTED, "Not Implemented", &[]);
            return false;
        }
        if let Some(endpoint) = endpoint(request.path) {
            return self.upgrade(index, request, &exchange, endpoint);
        }
        let page = page(request.path, !self.config.no_console);
        if let (Method::Get | Method::Head, Some(page)) = (&request.method, page) {
            self.reply_page(index, request, exchange, page);
            return false;
        }
        // A load balancer that is told nothing else asks for the options of `/`, whatever is there.
        let root = Some("OPTIONS").filter(|_| (&request.method, request.path) == (&Method::Options, "/"));
        let Some(allowed) = methods(request.path).or_else(|| page.map(Page::methods)).or(root) else {
            self.reply_detail(index, &exchange, Status::NOT_FOUND, "Not Found", &[]);
            return false;
        };
        match (&request.method, request.path) {
            (Method::Options, _) if is_preflight(request) => self.preflight(index, request, &exchange),
            (Method::Options, _) => self.reply(index, &exchange, Status::OK, b"", &[("Allow", allowed)]),
            (Method::Get | Method::Head, "/api/health") if is_set(request, "verbose") => {
                self.ask_inspection(index, exchange, Inspection::Health);
            }
            (Method::Get | Method::Head, "/api/health") => {
                let (status, body) = self.health_report();
                self.reply(index, &exchange, status, &body, &[]);
            }
            (Method::Get | Method::Head, "/api/connections") => {
                let range = ConnectionRange::parse(|name| request.query_value(name));
                self.ask_for_range(index, exchange, range.map(Inspection::Connections));
            }
            (Method::Get | Method::Head, "/api/channels") if is_set(request, "detail") => {
                let range = ChannelRange::parse(|name| request.query_value(name));
                self.ask_for_range(index, exchange, range.map(Inspection::Channels));
            }
            (Method::Get | Method::Head, "/metrics") => {
                self.ask_inspection(index, exchange, Inspection::Metrics);
            }
            (Method::Get | Method::Head, "/api/schema") => {
                self.reply_static(index, &exchange, SCHEMA.as_bytes(), &[("Content-Type", JSON)]);
            }
            (Method::Get | Method::Head, "/api/channels" | "/api/summary") => {
                self.list_names(index, request, exchange);
            }
            (Method::Get | Method::Head, "/api/messages" | "/api/events") => {
                self.list(index, request, exchange);
            }
            (Method::Post, "/api/messages" | "/api/events") => self.post(index, request, exchange),
            _ => {
                let allow = [("Allow", allowed)];
                self.reply_detail(index, &exchange, Status::METHOD_NOT_ALLOWED, "Method Not Allowed", &allow);
            }
        }
        false
    }

    fn ask_for_range(&mut self, index: u32, exchange: Exchange, range: Result<Inspection, FieldErrors>) {
        match range {
            Ok(inspection) => self.ask_inspection(index, exchange, inspection),
            Err(errors) => self.reply_errors(index, &exchange, &errors),
        }
    }

    /// 200 where everything is well, else 503 and why.
    pub(super) fn health_report(&self) -> (Status, Vec<u8>) {
        match self.store.health() {
            _ if self.is_draining() => (Status::SERVICE_UNAVAILABLE, b"{\"status\":\"draining\"}".to_vec()),
            Health::Sound => (Status::OK, b"{\"status\":\"ok\"}".to_vec()),
            health => (Status::SERVICE_UNAVAILABLE, health_payload(health)),
        }
    }

    pub(super) fn reply_errors(&mut self, index: u32, exchange: &Exchange, errors: &FieldErrors) {
        let mut body = b"{\"detail\":".to_vec();
        write_json(errors, &mut body);
        body.push(b'}');
        self.reply(index, exchange, Status::UNPROCESSABLE_CONTENT, &body, &[]);
    }

    fn exchange(&mut self, request: &Request<'_>) -> Exchange {
        let given = request.header("x-correlation-id");
        let usable = given
            .filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .and_then(|id| CorrelationId::new(id.to_owned()));
        Exchange {
            content: Content::Answer,
            head_only: matches!(request.method, Method::Head),
            keep_alive: request.keep_alive && !self.is_draining(),
            correlation_id: usable.unwrap_or_else(|| self.make_correlation_id()),
            origin: self.allowed_origin(request).map(str::to_owned),
        }
    }

    fn make_correlation_id(&mut self) -> CorrelationId {
        CorrelationId::made_up(self.random.u128(..))
    }

    /// Of a connection on which nothing more is read, and whose request cannot be trusted.
    fn last_exchange(&mut self, head_only: bool) -> Exchange {
        let correlation_id = self.make_correlation_id();
        Exchange { content: Content::Answer, head_only, keep_alive: false, correlation_id, origin: None }
    }

    /// Says to a new connection why it is not let in.
    pub(super) fn reject(&mut self, index: u32, limit: Limit) {
        let exchange = self.last_exchange(false);
        let extra = [("Retry-After", "5")];
        let detail =
            if limit == Limit::Memory { "too little memory is left" } else { "too many connections" };
        self.reply_detail(index, &exchange, Status::SERVICE_UNAVAILABLE, detail, &extra);
        self.close_after_flush(index, CloseReason::NotAdmitted);
        self.send_output(index);
    }

    /// Notes that an answer of the engine is awaited.
    pub(super) fn await_answer(&mut self, index: u32, exchange: Exchange) -> Pending {
        let connection = self.expect_answer(index, &exchange);
        Pending::Request { connection, exchange }
    }

    /// Notes that another answer has to be sent to a connection.
    pub(super) fn expect_answer(&mut self, index: u32, exchange: &Exchange) -> Id {
        self.connections.expect_response(index, exchange.keep_alive)
    }

    /// Sends the engine's answer to the request that it belongs to.
    pub(super) fn answer(
        &mut self,
        connection: Id,
        exchange: &Exchange,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        if self.connections.find(connection).is_some() {
            self.write_response(connection.index, exchange, status, body, extra);
            self.connections.push_output(connection.index);
            self.connections.queue_flush(connection.index);
            self.answered(connection);
        }
    }

    /// The same for a body that others are sent, too, of which no copy is made.
    pub(super) fn answer_shared(
        &mut self,
        connection: Id,
        exchange: &Exchange,
        body: Frame,
        extra: &[(&str, &str)],
    ) {
        if self.connections.find(connection).is_some() {
            let index = connection.index;
            let head_only = Exchange { head_only: true, ..exchange.clone() };
            self.write_response(index, &head_only, Status::OK, &body, extra);
            self.connections.push_output(index);
            if !exchange.head_only {
                self.connections.push_shared(index, body);
            }
            self.connections.queue_flush(index);
            self.answered(connection);
        }
    }

    /// The whole answer to a request that had to wait is on its way.
    pub(super) fn answered(&mut self, connection: Id) {
        let index = connection.index;
        if !self.connections.note_response(index) {
            return;
        }
        if let Some(held) = self.held.remove(&connection) {
            self.connections.push(index, &held);
        }
        self.connections.end_wait_for_responses(index);
        self.settle_request(index);
    }

    /// Answers a request that needs nothing of the engine. It still has to wait for
    /// the answers to those before it.
    pub(super) fn reply(
        &mut self,
        index: u32,
        exchange: &Exchange,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        if self.connections.at(index).awaits_response() {
            let id = self.connections.id(index);
            let held = self.held.entry(id).or_default();
            write_response(exchange, status, body, extra, self.moment.http_date(), held);
            self.connections.await_response(index);
        } else {
            self.write_response(index, exchange, status, body, extra);
        }
        if !exchange.keep_alive {
            self.connections.stop_reading(index);
        }
    }

    /// The same for a body that is part of the binary, of which no copy is made.
    pub(super) fn reply_static(
        &mut self,
        index: u32,
        exchange: &Exchange,
        body: &'static [u8],
        extra: &[(&str, &str)],
    ) {
        debug_assert!(!self.connections.at(index).awaits_response());
        let head_only = Exchange { head_only: true, ..exchange.clone() };
        self.reply(index, &head_only, Status::OK, body, extra);
        if !exchange.head_only {
            self.connections.push_output(index);
            self.connections.push_static(index, body);
        }
    }

    /// The same for a body `{"detail": …}`.
    pub(super) fn reply_detail(
        &mut self,
        index: u32,
        exchange: &Exchange,
        status: Status,
        detail: &str,
        extra: &[(&str, &str)],
    ) {
        self.reply(index, exchange, status, &detail_body(detail), extra);
    }

    fn write_response(
        &mut self,
        index: u32,
        exchange: &Exchange,
        status: Status,
        body: &[u8],
        extra: &[(&str, &str)],
    ) {
        let output = self.connections.output(index);
        write_response(exchange, status, body, extra, self.moment.http_date(), output);
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
    exchange: &Exchange,
    status: Status,
    body: &[u8],
    extra: &[(&str, &str)],
    date: &str,
    out: &mut Vec<u8>,
) {
    let mut headers = Vec::with_capacity(extra.len() + 7);
    headers.extend_from_slice(&exchange.headers());
    headers.retain(|(_, value)| !value.is_empty());
    headers.extend_from_slice(extra);
    let has_type = extra.iter().any(|(name, _)| *name == "Content-Type");
    Response {
        status,
        content_type: if has_type || body.is_empty() { "" } else { JSON },
        body,
        extra: &headers,
        keep_alive: exchange.keep_alive,
        head_only: exchange.head_only,
    }
    .write(date, out);
}

/// Whether the query has `name=1`.
fn is_set(request: &Request<'_>, name: &str) -> bool {
    request.query_value(name).is_some_and(|value| value == "1")
}

/// Whether what begins here may be a POST. The answers to those come in the order of the
/// requests, so that several may be waited for at once; all others are only
/// looked at when the answers before them were sent.
fn may_be_append(input: &[u8]) -> bool {
    const POST: &[u8] = b"POST ";
    let start = input.trim_ascii_start();
    start[..start.len().min(POST.len())] == POST[..start.len().min(POST.len())]
}
