//! Lists of messages and of events: pages that may be large. First the engine says which records are in one, so
//! that its head can link to the next; then these are read, a slice at a time, and the next slice only
//! when the client has taken the one before it. So a list holds up nobody, and takes no more memory than a slice.

use crate::base::id::Id;
use crate::store::engine::{Engine, EngineError, Record, Selection, Span, Ticket};
use crate::wire::body::ListRange;
use crate::wire::http::accept::accepts_gzip;
use crate::wire::http::decoder::{BodyEnd, LAST_CHUNK, Request, ResponseHead, Status, Version, write_chunk};
use crate::wire::http::gzip::Gzip;
use crate::wire::protocol::{Sequence, write_event, write_numbered};

use super::connections::CloseReason;
use super::exchange::{Content, Exchange, JSON, detail_body};
use super::list::List;
use super::server::{Ask, Server};
use super::socket::Socket;

/// Questions about lists that the engine has at once: so many slices may come in one turn.
const ASKED_MAX: usize = 4;

impl<S: Socket, E: Engine> Server<S, E> {
    /// Begins to answer `GET /api/messages` or `GET /api/events`.
    pub(super) fn list(&mut self, index: u32, request: &Request<'_>, exchange: Exchange) {
        let exchange = Exchange { content: Content::List, ..exchange };
        let sequence = if request.path == "/api/events" { Sequence::Events } else { Sequence::Messages };
        let range = match ListRange::parse(sequence, |name| request.query_value(name)) {
            Ok(range) => range,
            Err(errors) => return self.reply_errors(index, &exchange, &errors),
        };
        let given = |name| request.query_value(name).filter(|value| !value.is_empty());
        let of = match request.path {
            "/api/events" => Selection::Events(given("type").map(|kind| kind.as_ref().into())),
            _ => Selection::Messages(given("channel_id").map(|name| name.as_ref().into())),
        };
        let end = match request.version {
            Version::Http10 => BodyEnd::Close,
            Version::Http11 => BodyEnd::Chunked,
        };
        let may_compress = self.config.compression.over > 0 && accepts_gzip(request);
        let gzip = may_compress.then(Gzip::default);
        let id = self.expect_answer(index, &exchange);
        let list =
            List { exchange, of, range, end, gzip, span: None, read: 0, is_begun: false, is_sending: false };
        self.lists.insert(id, list);
        self.lists_due.push_back(id);
        self.connections.await_response(index);
    }

    /// Asks the engine for what lists need next, as far as there is room for that. Where there is none, there still
    /// is a reserve for one slice.
    pub(super) fn ask_for_lists(&mut self) {
        while self.may_ask_for_list()
            && let Some(connection) = self.lists_due.pop_front()
        {
            // Who asked may be gone.
            let Some(list) = self.lists.get(&connection) else { continue };
            let budgets = &self.config.budgets;
            let question = list.question(budgets.page_records, budgets.page_bytes);
            self.lists_asked += 1;
            self.list_asked = Some(connection);
            let ticket = Ticket(self.asks.insert(Ask::List { connection }) as u64);
            self.engine.ask(question, ticket);
        }
    }

    /// Whether a list waits for nobody but us.
    pub(super) fn has_lists_to_ask_for(&self) -> bool {
        !self.lists_due.is_empty() && self.may_ask_for_list()
    }

    /// Whether another slice fits beside those that are being read and what is unsent, or the last one is out of
    /// the way.
    fn may_ask_for_list(&self) -> bool {
        let has_room = self.has_room_for(self.lists_asked * self.config.budgets.page_bytes);
        match self.lists_asked {
            0 => has_room || self.list_asked.is_none_or(|id| self.connections.is_out_of_the_way(id)),
            asked => has_room && asked < ASKED_MAX,
        }
    }

    /// A list's client has taken what it was sent.
    pub(super) fn go_on_with_list(&mut self, index: u32) {
        let id = self.connections.id(index);
        if let Some(list) = self.lists.get_mut(&id).filter(|list| list.is_sending) {
            list.is_sending = false;
            self.lists_due.push_back(id);
        }
    }

    pub(super) fn apply_span(&mut self, ticket: Ticket, span: Option<Span>) {
        let Some(Ask::List { connection }) = self.take_ask(ticket) else { return };
        let Some(list) = self.lists.get_mut(&connection) else { return };
        match span {
            Some(found) => {
                list.span = span;
                list.read = found.first - 1;
                self.lists_due.push_back(connection);
            }
            None => self.add_to_list(connection, &[], true),
        }
    }

    /// A slice of a list was read, complete up to `through`.
    pub(super) fn apply_slice(&mut self, connection: Id, records: &[(u64, Record)], through: u64) {
        let Some(list) = self.lists.get_mut(&connection) else { return };
        list.read = through;
        let is_done = list.span.is_none_or(|span| through >= span.last);
        if records.is_empty() && !is_done {
            // Of what was looked at, nothing was of the type that is wanted.
            self.lists_due.push_back(connection);
            return;
        }
        self.add_to_list(connection, records, is_done);
    }

    fn add_to_list(&mut self, connection: Id, records: &[(u64, Record)], is_done: bool) {
        let Some(mut list) = self.lists.remove(&connection) else { return };
        let mut part = if list.is_begun { Vec::new() } else { list.opening().to_vec() };
        for (number, (id, record)) in records.iter().enumerate() {
            if number > 0 || list.is_begun {
                part.push(b',');
            }
            match record {
                Record::Message(message) => write_numbered(*id, message, &mut part),
                Record::Event(event) => write_event(*id, event, &mut part),
            }
        }
        if is_done {
            part.extend_from_slice(b"]}");
        }
        if is_done && !list.is_begun {
            return self.answer_whole_list(connection, list, &part);
        }
        if !list.is_begun {
            self.begin_list(connection.index, &mut list);
        }
        if !list.exchange.head_only {
            self.push_part(connection.index, &mut list, &part, is_done);
        }
        self.connections.queue_flush(connection.index);
        if is_done || list.exchange.head_only {
            return self.answered(connection);
        }
        list.is_sending = true;
        self.lists.insert(connection, list);
    }

    fn answer_whole_list(&mut self, connection: Id, list: List, body: &[u8]) {
        let links = list.links();
        let mut extra = Vec::new();
        let mut compressed = Vec::new();
        if !links.is_empty() {
            extra.push(("Link", links.as_str()));
        }
        if let Some(mut gzip) = list.gzip.filter(|_| body.len() > self.config.compression.over) {
            self.encoders.gzip(&mut gzip, body, &mut compressed, &mut self.metrics.coded);
            gzip.finish(&mut compressed);
            extra.push(("Content-Encoding", "gzip"));
        }
        let body = if compressed.is_empty() { body } else { &compressed };
        self.answer(connection, &list.exchange, Status::OK, body, &extra);
    }

    /// Sends the head of a list that does not fit into one slice.
    fn begin_list(&mut self, index: u32, list: &mut List) {
        list.is_begun = true;
        if list.end == BodyEnd::Close {
            list.exchange.keep_alive = false;
            self.connections.stop_reading(index);
        }
        let links = list.links();
        let coding = if list.gzip.is_some() { "gzip" } else { "" };
        let mut fields = list.exchange.headers().to_vec();
        fields.extend([("Link", links.as_str()), ("Content-Encoding", coding)]);
        fields.retain(|(_, value)| !value.is_empty());
        ResponseHead {
            status: Status::OK,
            content_type: JSON,
            end: list.end,
            extra: &fields,
            keep_alive: list.exchange.keep_alive,
        }
        .write(self.moment.http_date(), 0, self.connections.output(index));
        self.connections.push_output(index);
    }

    /// Sends a part of a list, and what ends it.
    fn push_part(&mut self, index: u32, list: &mut List, part: &[u8], is_done: bool) {
        let mut compressed = Vec::new();
        if let Some(gzip) = &mut list.gzip {
            self.encoders.gzip(gzip, part, &mut compressed, &mut self.metrics.coded);
            if is_done {
                gzip.finish(&mut compressed);
            }
        }
        let part = if list.gzip.is_some() { &compressed } else { part };
        if list.end == BodyEnd::Chunked {
            let output = self.connections.output(index);
            write_chunk(part, output);
            if is_done {
                output.extend_from_slice(LAST_CHUNK);
            }
            self.connections.push_output(index);
        } else {
            self.connections.push(index, part);
        }
    }

    /// A list cannot be read. If it has not begun, its client is told why. If it has, the connection ends without
    /// the last chunk, after all that was written before: answers to earlier requests are in it.
    pub(super) fn fail_list(&mut self, connection: Id, error: &EngineError) {
        let Some(list) = self.lists.remove(&connection) else { return };
        if list.is_begun {
            self.close_after_flush(connection.index, CloseReason::StoreFailed);
            return self.connections.queue_flush(connection.index);
        }
        let body = detail_body(&format!("the store is not available: {error}"));
        let extra = [("Retry-After", "1")];
        self.answer(connection, &list.exchange, Status::SERVICE_UNAVAILABLE, &body, &extra);
    }
}
