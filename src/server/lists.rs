//! Lists: of messages and of events, pages that may be large, and of all names, without end. Of a page the engine first
//! says which records are in it, so that its head can link to the next. Then each list is read, a slice at a time, and
//! the next slice only when the client has taken the one before it. So a list delays nothing else, and takes no more
//! memory than a slice.

use crate::base::id::Id;
use crate::store::engine::{EngineError, Mark, QueryId, Record, Span};
use crate::wire::http::decoder::{BodyEnd, LAST_CHUNK, ResponseHead, Status, write_chunk};
use crate::wire::protocol::{write_event, write_numbered};

use super::connections::{CloseReason, OWN_BYTES};
use super::http::list::{List, NameSections, Records, Slice, What};
use super::http::{JSON, detail_body};
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

/// Questions about lists that the engine has at once: this many slices may come in one turn.
const ASKED_MAX: usize = 4;

/// Weight of a slice that needs no room, since each connection may have so much unsent in any case.
const SMALL_SLICE_BYTES: usize = OWN_BYTES / 4;

impl<S: Socket> Server<S> {
    /// Begins to answer a request with a list.
    pub(super) fn add_list(&mut self, index: u32, list: List) {
        let id = self.connections.expect_response(index, list.response.keep_alive);
        self.lists.insert(id, list);
        self.lists_due.push_back(id);
        self.connections.await_response(index);
    }

    /// Asks the engine for what lists need next. Without room, these are slices that need none, or one that has a
    /// reserve.
    pub(super) fn ask_for_lists(&mut self) {
        while self.lists_asked < ASKED_MAX {
            let has_room = self.has_room_for_slice();
            let bytes_max = if has_room { self.config.budgets.page_bytes } else { SMALL_SLICE_BYTES };
            if (has_room || self.is_reserve_free())
                && let Some(connection) = self.lists_large.pop_front()
            {
                self.list_in_reserve = Some(connection);
                self.ask_for_list(connection, bytes_max, usize::MAX);
            } else if let Some(connection) = self.lists_due.pop_front() {
                let each_bytes_max = if has_room { usize::MAX } else { SMALL_SLICE_BYTES };
                self.ask_for_list(connection, bytes_max, each_bytes_max);
            } else {
                return;
            }
        }
    }

    fn ask_for_list(&mut self, connection: Id, bytes_max: usize, each_bytes_max: usize) {
        // The client that asked may be gone.
        let Some(list) = self.lists.get_mut(&connection) else { return };
        let budgets = &self.config.budgets;
        let bytes_max = bytes_max.min(budgets.page_bytes);
        let question = list.question(Slice { records_max: budgets.page_records, bytes_max, each_bytes_max });
        list.is_asked = true;
        self.lists_asked += 1;
        self.store.ask(question, Pending::List { connection });
    }

    /// Whether a list waits for nothing but us.
    pub(super) fn has_lists_to_ask_for(&self) -> bool {
        self.lists_asked < ASKED_MAX
            && (!self.lists_due.is_empty()
                || (!self.lists_large.is_empty() && (self.has_room_for_slice() || self.is_reserve_free())))
    }

    /// Whether another slice fits beside those that are being read and what is unsent.
    fn has_room_for_slice(&self) -> bool {
        self.has_room_for(self.lists_asked * self.config.budgets.page_bytes)
    }

    /// Whether the last slice for which there was no room is out of the way.
    fn is_reserve_free(&self) -> bool {
        let is_asked = |id: &Id| self.lists.get(id).is_some_and(|list| list.is_asked);
        self.list_in_reserve.is_none_or(|id| !is_asked(&id) && self.connections.is_out_of_the_way(id))
    }

    /// The next slice of a list needs room. One that was begun and taken so far does not wait behind those that
    /// were not.
    pub(super) fn apply_too_large(&mut self, query_id: QueryId) {
        let Some(Pending::List { connection }) = self.take(query_id) else { return };
        match self.lists.get(&connection) {
            // The part of a slice that it has is sent first.
            Some(List { what: What::Names(names), .. }) if !names.part.is_empty() => {
                self.send_names(connection, false);
            }
            Some(list) if list.is_begun => self.lists_large.push_front(connection),
            Some(_) => self.lists_large.push_back(connection),
            None => {}
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

    pub(super) fn apply_span(&mut self, query_id: QueryId, span: Option<Span>) {
        let Some(Pending::List { connection }) = self.take(query_id) else { return };
        let Some(records) = self.records_of(connection) else { return };
        match span {
            Some(found) => {
                records.span = span;
                records.read = found.first - 1;
                self.lists_due.push_back(connection);
            }
            None => self.add_records(connection, &[], true),
        }
    }

    fn records_of(&mut self, connection: Id) -> Option<&mut Records> {
        match &mut self.lists.get_mut(&connection)?.what {
            What::Records(records) => Some(records),
            What::Names(_) => None,
        }
    }

    /// A slice of a list was read, complete up to `through`.
    pub(super) fn apply_slice(&mut self, connection: Id, records: &[(u64, Record)], through: u64) {
        let Some(list) = self.records_of(connection) else { return };
        list.read = through;
        let is_done = list.span.is_none_or(|span| through >= span.last);
        if records.is_empty() && !is_done {
            // None of the records that were looked at has the type that is wanted.
            self.lists_due.push_back(connection);
            return;
        }
        self.add_records(connection, records, is_done);
    }

    fn add_records(&mut self, connection: Id, records: &[(u64, Record)], is_done: bool) {
        let Some(list) = self.lists.get(&connection) else { return };
        let What::Records(selected) = &list.what else { return };
        let is_begun = list.is_begun;
        let mut part = if is_begun { Vec::new() } else { selected.opening().to_vec() };
        for (number, (id, record)) in records.iter().enumerate() {
            if number > 0 || is_begun {
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
        self.send_part(connection, &part, is_done);
    }

    pub(super) fn apply_totals(&mut self, query_id: QueryId, messages: u64, tokens: i64) {
        self.add_names(query_id, |names| names.write_totals(messages, tokens));
    }

    pub(super) fn apply_names(&mut self, query_id: QueryId, names: &[(String, u64)], next: Option<Mark>) {
        self.add_names(query_id, |sections| sections.write_names(names, next));
    }

    /// Lets `write` add to a list of names; it returns whether the list is complete. A whole slice is sent. A smaller
    /// part is kept for the next answer, which is asked for at once, so few lists keep anything.
    fn add_names(&mut self, query_id: QueryId, write: impl FnOnce(&mut NameSections) -> bool) {
        let Some(Pending::List { connection }) = self.take(query_id) else { return };
        let Some(List { what: What::Names(names), .. }) = self.lists.get_mut(&connection) else { return };
        let is_done = write(names);
        let len = names.part.len();
        let bytes_max = if self.has_room() { self.config.budgets.page_bytes } else { SMALL_SLICE_BYTES };
        if !is_done && len < bytes_max {
            let each_bytes_max = if self.has_room() { usize::MAX } else { SMALL_SLICE_BYTES };
            return self.ask_for_list(connection, bytes_max, each_bytes_max);
        }
        self.send_names(connection, is_done);
    }

    fn send_names(&mut self, connection: Id, is_done: bool) {
        let Some(List { what: What::Names(names), .. }) = self.lists.get_mut(&connection) else { return };
        let part = std::mem::take(&mut names.part);
        self.send_part(connection, &part, is_done);
    }

    fn send_part(&mut self, connection: Id, part: &[u8], is_done: bool) {
        let Some(mut list) = self.lists.remove(&connection) else { return };
        if is_done && !list.is_begun {
            return self.answer_whole_list(connection, list, part);
        }
        if !list.is_begun {
            self.begin_list(connection.index, &mut list);
        }
        if !list.response.head_only {
            self.push_part(connection.index, &mut list, part, is_done);
        }
        self.connections.queue_flush(connection.index);
        if is_done || list.response.head_only {
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
        self.answer(connection, &list.response, Status::OK, body, &extra);
    }

    /// Sends the head of a list that does not fit into one slice.
    fn begin_list(&mut self, index: u32, list: &mut List) {
        list.is_begun = true;
        if list.end == BodyEnd::Close {
            list.response.keep_alive = false;
            self.connections.stop_reading(index);
        }
        let links = list.links();
        let coding = if list.gzip.is_some() { "gzip" } else { "" };
        let mut fields = list.response.headers().to_vec();
        fields.extend([("Link", links.as_str()), ("Content-Encoding", coding)]);
        fields.retain(|(_, value)| !value.is_empty());
        ResponseHead {
            status: Status::OK,
            content_type: JSON,
            end: list.end,
            extra: &fields,
            keep_alive: list.response.keep_alive,
        }
        .write(self.time.http_date(), 0, self.connections.output(index));
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
        self.answer(connection, &list.response, Status::SERVICE_UNAVAILABLE, &body, &extra);
    }
}
