//! Lists: of messages and of events, pages that may be large, and of all names, without end. Of a page the engine first
//! says which records are in it, so that its head can link to the next. Then each list is read, a slice at a time, and
//! the next slice only when the client has taken the one before it. So a list delays nothing else, and takes no more
//! memory than a slice.

use std::collections::VecDeque;

use crate::base::id::Id;
use crate::base::map::Map;
use crate::server::connections::{CloseReason, OWN_BYTES, expect_once};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::store::engine::{EngineError, Record, Span, StoredName};
use crate::wire::http::decoder::{BodyEnd, LAST_CHUNK, ResponseHead, Status, write_chunk};
use crate::wire::protocol::{write_event, write_numbered};

use super::list::{List, NameSections, Records, Slice, What};
use super::outcome::{JSON, detail_body};
use super::responses::{answer, answered};

/// Questions about lists that the engine has at once: this many slices may come in one turn.
const ASKED_MAX: usize = 4;

/// Weight of a slice that needs no room, since each connection may have so much unsent in any case.
const SMALL_SLICE_BYTES: usize = OWN_BYTES / 4;

/// The lists that are asked for and not all sent.
#[derive(Debug, Default)]
pub(in crate::server) struct Lists {
    /// Looked up only.
    lists: Map<Id, List>,
    /// Those of which more is to be read, in their order.
    due: VecDeque<Id>,
    /// Those of them whose next slice needs room.
    large: VecDeque<Id>,
    /// Questions about lists that the engine has yet to answer.
    asked: usize,
    /// The list that had a slice last for which there was no room.
    in_reserve: Option<Id>,
}

impl Lists {
    /// Begins to answer a request with a list.
    pub(in crate::server) fn add<S: Socket>(&mut self, owners: &mut Owners<S>, index: u32, list: List) {
        let id = owners.connections.expect_response(index, list.response.keep_alive);
        self.lists.insert(id, list);
        self.due.push_back(id);
        owners.connections.await_response(index);
    }

    /// Asks the engine for what lists need next. Without room, these are slices that need none, or one that has a
    /// reserve.
    pub(in crate::server) fn ask<S: Socket>(&mut self, owners: &mut Owners<S>) {
        while self.asked < ASKED_MAX {
            let has_room = self.has_room_for_slice(owners);
            let bytes_max = if has_room { owners.config.budgets.page_bytes } else { SMALL_SLICE_BYTES };
            if (has_room || self.is_reserve_free(owners))
                && let Some(connection) = self.large.pop_front()
            {
                self.in_reserve = Some(connection);
                self.ask_for(owners, connection, bytes_max, usize::MAX);
            } else if let Some(connection) = self.due.pop_front() {
                let each_bytes_max = if has_room { usize::MAX } else { SMALL_SLICE_BYTES };
                self.ask_for(owners, connection, bytes_max, each_bytes_max);
            } else {
                return;
            }
        }
    }

    fn ask_for<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        bytes_max: usize,
        each_bytes_max: usize,
    ) {
        let Some(list) = self.lists.get_mut(&connection) else { return };
        let budgets = &owners.config.budgets;
        let bytes_max = bytes_max.min(budgets.page_bytes);
        let question = list.question(Slice { records_max: budgets.page_records, bytes_max, each_bytes_max });
        list.is_asked = true;
        self.asked += 1;
        owners.store.ask(question, Pending::List { connection });
    }

    /// Whether a list waits for nothing but us.
    pub(in crate::server) fn has_next<S: Socket>(&self, owners: &Owners<S>) -> bool {
        self.asked < ASKED_MAX
            && (!self.due.is_empty()
                || (!self.large.is_empty()
                    && (self.has_room_for_slice(owners) || self.is_reserve_free(owners))))
    }

    /// Whether another slice fits beside those that are being read and what is unsent.
    fn has_room_for_slice<S: Socket>(&self, owners: &Owners<S>) -> bool {
        owners.has_room_for(self.asked * owners.config.budgets.page_bytes)
    }

    /// Whether the last slice for which there was no room is out of the way.
    fn is_reserve_free<S: Socket>(&self, owners: &Owners<S>) -> bool {
        let is_asked = |id: &Id| self.lists.get(id).is_some_and(|list| list.is_asked);
        self.in_reserve.is_none_or(|id| !is_asked(&id) && owners.connections.is_out_of_the_way(id))
    }

    /// The next slice of a list needs room. One that was begun and taken so far does not wait behind those that
    /// were not.
    pub(in crate::server) fn apply_too_large<S: Socket>(&mut self, owners: &mut Owners<S>, connection: Id) {
        match self.lists.get(&connection) {
            // The part of a slice that it has is sent first.
            Some(List { what: What::Names(names), .. }) if !names.part.is_empty() => {
                self.send_names(owners, connection, false);
            }
            Some(list) if list.is_begun => self.large.push_front(connection),
            Some(_) => self.large.push_back(connection),
            None => {}
        }
    }

    /// A list's client has taken what it was sent.
    pub(in crate::server) fn go_on<S: Socket>(&mut self, owners: &Owners<S>, index: u32) {
        let id = owners.connections.id(index);
        if let Some(list) = self.lists.get_mut(&id).filter(|list| list.is_sending) {
            list.is_sending = false;
            self.due.push_back(id);
        }
    }

    pub(in crate::server) fn apply_span<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        span: Option<Span>,
    ) {
        let Some(records) = self.records_of(connection) else { return };
        match span {
            Some(found) => {
                records.span = span;
                records.read = found.first - 1;
                self.due.push_back(connection);
            }
            None => self.add_records(owners, connection, &[], true),
        }
    }

    fn records_of(&mut self, connection: Id) -> Option<&mut Records> {
        match &mut self.lists.get_mut(&connection)?.what {
            What::Records(records) => Some(records),
            What::Names(_) => None,
        }
    }

    /// A slice of a list was read, complete up to `through`.
    pub(in crate::server) fn apply_slice<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        records: &[(u64, Record)],
        through: u64,
    ) {
        let Some(list) = self.records_of(connection) else { return };
        list.read = through;
        let is_done = list.span.is_none_or(|span| through >= span.last);
        if records.is_empty() && !is_done {
            // None of the records that were looked at has the type that is wanted.
            self.due.push_back(connection);
            return;
        }
        self.add_records(owners, connection, records, is_done);
    }

    fn add_records<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        records: &[(u64, Record)],
        is_done: bool,
    ) {
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
        self.send_part(owners, connection, &part, is_done);
    }

    pub(in crate::server) fn apply_totals<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        messages: u64,
        tokens: i64,
    ) {
        self.add_names(owners, connection, |names| names.write_totals(messages, tokens));
    }

    pub(in crate::server) fn apply_names<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        names: &[(String, u64)],
        next: Option<StoredName>,
    ) {
        self.add_names(owners, connection, |sections| sections.write_names(names, next));
    }

    /// Lets `write` add to a list of names; it returns whether the list is complete. A whole slice is sent. A smaller
    /// part is kept for the next answer, which is asked for at once, so few lists keep anything.
    fn add_names<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        write: impl FnOnce(&mut NameSections) -> bool,
    ) {
        let Some(List { what: What::Names(names), .. }) = self.lists.get_mut(&connection) else { return };
        let is_done = write(names);
        let len = names.part.len();
        let bytes_max = if owners.has_room() { owners.config.budgets.page_bytes } else { SMALL_SLICE_BYTES };
        if !is_done && len < bytes_max {
            let each_bytes_max = if owners.has_room() { usize::MAX } else { SMALL_SLICE_BYTES };
            return self.ask_for(owners, connection, bytes_max, each_bytes_max);
        }
        self.send_names(owners, connection, is_done);
    }

    fn send_names<S: Socket>(&mut self, owners: &mut Owners<S>, connection: Id, is_done: bool) {
        let Some(List { what: What::Names(names), .. }) = self.lists.get_mut(&connection) else { return };
        let part = std::mem::take(&mut names.part);
        self.send_part(owners, connection, &part, is_done);
    }

    fn send_part<S: Socket>(&mut self, owners: &mut Owners<S>, connection: Id, part: &[u8], is_done: bool) {
        let Some(mut list) = self.lists.remove(&connection) else { return };
        if is_done && !list.is_begun {
            return self.answer_whole_list(owners, connection, list, part);
        }
        if !list.is_begun {
            self.begin_list(owners, connection.index, &mut list);
        }
        if !list.response.head_only {
            self.push_part(owners, connection.index, &mut list, part, is_done);
        }
        owners.connections.queue_flush(connection.index);
        if is_done || list.response.head_only {
            return answered(owners, connection);
        }
        list.is_sending = true;
        self.lists.insert(connection, list);
    }

    fn answer_whole_list<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        list: List,
        body: &[u8],
    ) {
        let links = list.links();
        let mut extra = Vec::new();
        let mut compressed = Vec::new();
        if !links.is_empty() {
            extra.push(("Link", links.as_str()));
        }
        if let Some(mut gzip) = list.gzip.filter(|_| body.len() > owners.config.compression.over) {
            owners.encoders.gzip(&mut gzip, body, &mut compressed, &mut owners.metrics.coded);
            gzip.finish(&mut compressed);
            extra.push(("Content-Encoding", "gzip"));
        }
        let body = if compressed.is_empty() { body } else { &compressed };
        answer(owners, connection, &list.response, Status::OK, body, &extra);
    }

    /// Sends the head of a list that does not fit into one slice.
    fn begin_list<S: Socket>(&mut self, owners: &mut Owners<S>, index: u32, list: &mut List) {
        list.is_begun = true;
        if list.end == BodyEnd::Close {
            list.response.keep_alive = false;
            owners.connections.stop_reading(index);
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
        .write(owners.time.http_date(), 0, owners.connections.output(index));
        owners.connections.push_output(index);
    }

    /// Sends a part of a list, and what ends it.
    fn push_part<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        index: u32,
        list: &mut List,
        part: &[u8],
        is_done: bool,
    ) {
        let mut compressed = Vec::new();
        if let Some(gzip) = &mut list.gzip {
            owners.encoders.gzip(gzip, part, &mut compressed, &mut owners.metrics.coded);
            if is_done {
                gzip.finish(&mut compressed);
            }
        }
        let part = if list.gzip.is_some() { &compressed } else { part };
        if list.end == BodyEnd::Chunked {
            let output = owners.connections.output(index);
            write_chunk(part, output);
            if is_done {
                output.extend_from_slice(LAST_CHUNK);
            }
            owners.connections.push_output(index);
        } else {
            owners.connections.push(index, part);
        }
    }

    /// A list cannot be read. If it has not begun, its client is told why. If it has, the connection ends without
    /// the last chunk, after all that was written before: answers to earlier requests are in it.
    pub(in crate::server) fn fail<S: Socket>(
        &mut self,
        owners: &mut Owners<S>,
        connection: Id,
        error: &EngineError,
    ) {
        let Some(list) = self.lists.remove(&connection) else { return };
        if list.is_begun {
            owners.close_after_flush(connection.index, CloseReason::StoreFailed);
            return owners.connections.queue_flush(connection.index);
        }
        let body = detail_body(&format!("the store is not available: {error}"));
        let extra = [("Retry-After", "1")];
        answer(owners, connection, &list.response, Status::SERVICE_UNAVAILABLE, &body, &extra);
    }

    /// The engine has answered a question about the list of that client. Returns whether the client is still there.
    pub(in crate::server) fn note_answer<S: Socket>(&mut self, owners: &Owners<S>, connection: Id) -> bool {
        self.asked -= 1;
        if let Some(list) = self.lists.get_mut(&connection) {
            list.is_asked = false;
        }
        owners.connections.find(connection).is_some()
    }

    /// A client has gone.
    pub(in crate::server) fn forget(&mut self, connection: Id) {
        self.lists.remove(&connection);
    }

    /// How many wait for room for a record.
    pub(in crate::server) fn waiting_for_room(&self) -> usize {
        self.large.len()
    }

    /// Checks the whole structure, given how many lists the engine is asked for.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub(in crate::server) fn check_invariants(&self, asked: usize) {
        expect_once(self.due.iter(), "a list is due once");
        assert_eq!(asked, self.asked, "lists that are being read");
    }

    /// Checks that nothing is waited for.
    ///
    /// # Panics
    ///
    /// If something is.
    pub(in crate::server) fn check_quiet(&self) {
        assert!(self.lists.is_empty() && self.due.is_empty(), "no list is being sent");
        assert_eq!(self.asked, 0, "no list is being read");
    }
}
