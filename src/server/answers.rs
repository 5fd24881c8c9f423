//! Answers of the engine, and everything that they set off: logs grow from here only, and no client is told of a
//! record before its answer.

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::hub::entry::Entry;
use crate::store::engine::{Answer, EngineError, Record, Ticket};
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{write_event, write_message, write_numbered};
use crate::wire::v1::{ErrorCode, Place};
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::connections::CloseReason;
use super::http::detail_body;
use super::server::Server;
use super::socket::Socket;
use super::store::{Page, Pending};

/// Room for what an answer to a POST says beside the record.
const ANSWER_BYTES: usize = 160;

impl<S: Socket> Server<S> {
    pub(super) fn apply(&mut self, answer: Answer) {
        match answer {
            Answer::Committed { id, record, ticket, weight } => {
                self.store.note_appended(weight);
                self.apply_committed(id, &record, ticket);
            }
            Answer::Repeated { id, record, ticket, weight } => {
                self.metrics.repeated += 1;
                self.store.note_appended(weight);
                if let Some(ticket) = ticket {
                    self.answer_stored(ticket, id, &record, true);
                }
            }
            Answer::Count { ticket, count, is_cut, oldest } => {
                self.apply_count(ticket, (count, is_cut), oldest);
            }
            Answer::Refused { ticket, weight, error } => {
                self.metrics.refused += 1;
                self.store.note_appended(weight);
                log::debug!("a record could not be stored: {error}");
                if let Some(ticket) = ticket {
                    self.answer_error(ticket, &error);
                }
            }
            Answer::Page { ticket, records, through, oldest } => {
                self.apply_page(ticket, &records, through, oldest);
            }
            Answer::Span { ticket, span } => self.apply_span(ticket, span),
            Answer::Names { ticket, names, next } => self.apply_names(ticket, &names, next),
            Answer::TooLarge { ticket } => self.apply_too_large(ticket),
            Answer::Totals { ticket, messages, tokens } => self.apply_totals(ticket, messages, tokens),
            Answer::ChannelDetails { ticket, channels, is_cut } => {
                self.apply_channel_details(ticket, &channels, is_cut);
            }
            // Nobody asks for a count.
            Answer::Failed { ticket, error } => {
                self.metrics.reads_failed += 1;
                // A few lines say it, however many fail.
                if self.metrics.reads_failed.is_power_of_two() {
                    log::warn!("the store could not be read: {error}");
                }
                self.answer_error(ticket, &error);
            }
        }
    }

    fn apply_committed(&mut self, id: u64, record: &Record, ticket: Option<Ticket>) {
        self.metrics.committed += 1;
        let scratch = &mut self.scratch;
        let hits = &mut self.metrics.limits;
        self.hub.publish(&record.stream(), id, self.time.stamp, hits, || encode(id, record, scratch));
        if let Some(ticket) = ticket {
            self.answer_stored(ticket, id, record, false);
        }
    }

    /// Tells the client that appended `record` that it is stored as `id`.
    fn answer_stored(&mut self, ticket: Ticket, id: u64, record: &Record, is_repeated: bool) {
        match self.take(ticket) {
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
    fn tell(&mut self, id: Id, write: impl FnOnce(Place<'_>, &mut Vec<u8>)) {
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
    fn apply_count(&mut self, ticket: Ticket, (count, is_cut): (u64, bool), oldest: u64) {
        let Some(Pending::Resume { connection, from, through }) = self.take(ticket) else { return };
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

    fn answer_error(&mut self, ticket: Ticket, error: &EngineError) {
        match self.take(ticket) {
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

    /// Takes out what waits for the answer with that ticket.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.store.take(ticket)?;
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

    fn apply_page(&mut self, ticket: Ticket, records: &[(u64, Record)], through: u64, oldest: u64) {
        let (after, waiters) = match self.take(ticket) {
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
        self.store.push_page(Page { entries, bytes, after, through, oldest, waiters });
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
