//! Answers of the engine, and everything that they set off: logs grow from here only, and no client is told of a
//! record before its answer.

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::hub::entry::Entry;
use crate::store::engine::{Answer, EngineError, QueryId, Record};
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{write_event, write_message, write_numbered};
use crate::wire::v1::{EnvelopeContext, ErrorCode};
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::connections::CloseReason;
use super::http::detail_body;
use super::server::Server;
use super::socket::Socket;
use super::store::{HistoryPage, Pending};

/// Room for what an answer to a POST says beside the record.
const ANSWER_BYTES: usize = 160;

impl<S: Socket> Server<S> {
    pub(super) fn apply(&mut self, answer: Answer) {
        match answer {
            Answer::Committed { id, record, query_id, weight } => {
                self.store.note_appended(weight);
                self.apply_committed(id, &record, query_id);
            }
            Answer::Repeated { id, record, query_id, weight } => {
                self.metrics.repeated += 1;
                self.store.note_appended(weight);
                if let Some(query_id) = query_id {
                    self.answer_stored(query_id, id, &record, true);
                }
            }
            Answer::Count { query_id, count, is_cut, oldest } => {
                self.apply_count(query_id, (count, is_cut), oldest);
            }
            Answer::Refused { query_id, weight, error } => {
                self.metrics.refused += 1;
                self.store.note_appended(weight);
                log::debug!("a record could not be stored: {error}");
                if let Some(query_id) = query_id {
                    self.answer_error(query_id, &error);
                }
            }
            Answer::Page { query_id, records, through, oldest } => {
                self.apply_page(query_id, &records, through, oldest);
            }
            Answer::Span { query_id, span } => self.apply_span(query_id, span),
            Answer::Names { query_id, names, next } => self.apply_names(query_id, &names, next),
            Answer::TooLarge { query_id } => self.apply_too_large(query_id),
            Answer::Totals { query_id, messages, tokens } => self.apply_totals(query_id, messages, tokens),
            Answer::ChannelDetails { query_id, channels, is_cut } => {
                self.apply_channel_details(query_id, &channels, is_cut);
            }
            // Nobody asks for a count.
            Answer::Failed { query_id, error } => {
                self.metrics.reads_failed += 1;
                // A few lines say it, however many fail.
                if self.metrics.reads_failed.is_power_of_two() {
                    log::warn!("the store could not be read: {error}");
                }
                self.answer_error(query_id, &error);
            }
        }
    }

    fn apply_committed(&mut self, id: u64, record: &Record, query_id: Option<QueryId>) {
        self.metrics.committed += 1;
        let scratch = &mut self.scratch;
        let hits = &mut self.metrics.limits;
        self.hub.publish(&record.stream(), id, self.time.stamp, hits, || encode(id, record, scratch));
        if let Some(query_id) = query_id {
            self.answer_stored(query_id, id, record, false);
        }
    }

    /// Tells the client that appended `record` that it is stored as `id`.
    fn answer_stored(&mut self, query_id: QueryId, id: u64, record: &Record, is_repeated: bool) {
        match self.take(query_id) {
            Some(Pending::Request { connection, response }) => {
                let mut body = Vec::with_capacity(ANSWER_BYTES + record.weight());
                body.extend_from_slice(b"{\"success\":true,");
                match record {
                    Record::Message(message) => {
                        body.extend_from_slice(b"\"message\":");
                        write_numbered(id, message, &mut body);
                    }
                    Record::Event(event) => {
                        body.extend_from_slice(b"\"event\":");
                        write_event(id, event, &mut body);
                    }
                }
                body.push(b'}');
                let window = self.store.idempotency_window();
                let extra = [("Idempotency-Window", &*window), ("Idempotency-Replayed", "true")];
                let extra = &extra[..1 + usize::from(is_repeated)];
                self.answer(connection, &response, Status::OK, &body, extra);
            }
            Some(Pending::Publish { connection, id: Some(client_id) }) => {
                self.tell(connection, |place, out| place.write_ack(&client_id, id, out));
            }
            _ => {}
        }
    }

    /// Sends a client of `polecat.v1` a message of its own.
    fn tell(&mut self, id: Id, write: impl FnOnce(EnvelopeContext<'_>, &mut Vec<u8>)) {
        let timestamp = self.time.timestamp();
        let Some(place) = self.connections.find(id).and_then(|connection| connection.place(&timestamp))
        else {
            return;
        };
        self.write_text(id.index, |out| write(place, out));
        self.connections.push_output(id.index);
        self.connections.queue_flush(id.index);
    }

    /// Tells a subscriber how many messages it missed; they follow. If there are none, no history has to be read.
    fn apply_count(&mut self, query_id: QueryId, (count, is_cut): (u64, bool), oldest: u64) {
        let Some(Pending::Resume { connection, from, through }) = self.take(query_id) else { return };
        if self.connections.end_history(connection) {
            self.tell(connection, |place, out| place.write_resumed(from, count, is_cut, out));
            if count == 0
                && oldest <= from + 1
                && let Some(subscriber) = self.connections.find(connection)
            {
                let cursor = subscriber.cursor().max(through);
                self.connections.set_cursor(connection.index, cursor);
            }
            self.connections.queue_flush(connection.index);
        }
    }

    fn answer_error(&mut self, query_id: QueryId, error: &EngineError) {
        match self.take(query_id) {
            Some(
                Pending::Request { connection, response } | Pending::Channels { connection, response, .. },
            ) => {
                let body = detail_body(&format!("the store is not available: {error}"));
                let extra = [("Retry-After", "1")];
                self.answer(connection, &response, Status::SERVICE_UNAVAILABLE, &body, &extra);
            }
            Some(Pending::List { connection }) => self.fail_list(connection, error),
            Some(Pending::Publish { connection, id }) => {
                let message = error.to_string();
                self.tell(connection, |place, out| {
                    place.write_error(ErrorCode::StoreUnavailable, &message, id.as_ref(), out);
                });
            }
            Some(Pending::Resume { connection, .. }) => self.give_up_on(connection),
            Some(Pending::Page { waiters, .. }) => {
                for id in waiters {
                    self.give_up_on(id);
                }
            }
            None => {}
        }
    }

    /// Ends a subscriber whose history cannot be read now: it resumes when it reconnects. To go on without the history
    /// would leave a gap.
    fn give_up_on(&mut self, id: Id) {
        if self.connections.end_history(id) {
            self.close(id.index, CloseCode::Again, "history cannot be read now", CloseReason::StoreFailed);
        }
    }

    /// Takes out what waits for the answer to that query.
    pub(super) fn take(&mut self, query_id: QueryId) -> Option<Pending> {
        let pending = self.store.take(query_id)?;
        match &pending {
            Pending::List { connection } => {
                self.lists_asked -= 1;
                if let Some(list) = self.lists.get_mut(connection) {
                    list.is_asked = false;
                }
            }
            Pending::Channels { .. } => self.inspections.note_channels_asked(false),
            _ => {}
        }
        Some(pending)
    }

    fn apply_page(&mut self, query_id: QueryId, records: &[(u64, Record)], through: u64, oldest: u64) {
        let (after, waiters) = match self.take(query_id) {
            Some(Pending::Page { after, waiters, .. }) => (after, waiters),
            Some(Pending::List { connection }) => return self.apply_slice(connection, records, through),
            _ => return,
        };
        if !self.is_awaited(&waiters, after) {
            return;
        }
        let scratch = &mut self.scratch;
        let entry = |(id, record): &(u64, Record)| Entry::new(*id, encode(*id, record, scratch));
        let entries = records.iter().map(entry).collect::<Vec<_>>();
        let bytes = entries.iter().map(Entry::bytes).sum();
        self.store.push_page(HistoryPage { entries, bytes, after, through, oldest, waiters });
    }
}

/// A record as the frame that its subscribers get. `scratch` is empty before and after.
fn encode(id: u64, record: &Record, scratch: &mut Vec<u8>) -> Frame {
    debug_assert!(scratch.is_empty());
    match record {
        Record::Message(message) => write_message(id, message, scratch),
        Record::Event(event) => write_event(id, event, scratch),
    }
    let frame = codec::frame(OpCode::Text, scratch);
    scratch.clear();
    frame
}
