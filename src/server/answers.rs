//! What the engine answers, and what that sets off: logs grow from here only,
//! and nobody is told of a record before its answer.

use crate::ground::frame::Frame;
use crate::ground::id::Id;
use crate::hub::engine::{Answer, Engine, EngineError, Record, Ticket};
use crate::wire::codec::{self, CloseCode, OpCode};
use crate::wire::http::Status;
use crate::wire::protocol::{NumberedMessage, write_event, write_json, write_message};

use super::connection::Writing;
use super::metrics::CloseReason;
use super::server::{Ask, Page, Server};
use super::socket::Socket;

impl<S: Socket, E: Engine> Server<S, E> {
    pub(super) fn apply(&mut self, answer: Answer) {
        match answer {
            Answer::Committed { id, record, ticket } => self.apply_committed(id, &record, ticket),
            Answer::Repeated { id, record, ticket, weight } => {
                self.engine_backlog_bytes -= weight;
                self.answer_stored(id, &record, ticket);
            }
            Answer::Refused { ticket, weight, error } => {
                self.metrics.refused += 1;
                self.engine_backlog_bytes -= weight;
                log::error!("a record could not be stored: {error}");
                if let Some(ticket) = ticket {
                    self.answer_error(ticket, &error);
                }
            }
            Answer::Page { ticket, records, through } => self.apply_page(ticket, &records, through),
            Answer::Messages { ticket, messages } => {
                let messages: Vec<_> =
                    messages.iter().map(|(id, message)| NumberedMessage { id: *id, message }).collect();
                self.answer_json(ticket, "{\"messages\":", &messages, "}");
            }
            Answer::Channels { ticket, names } => self.answer_json(ticket, "{\"channels\":", &names, "}"),
            Answer::Summary { ticket, summary } => self.answer_json(ticket, "{\"summary\":", &summary, "}"),
            // Nobody asks for a count.
            Answer::Count { .. } => {}
            Answer::Failed { ticket, error } => {
                log::error!("the store could not be read: {error}");
                self.answer_error(ticket, &error);
            }
        }
    }

    fn apply_committed(&mut self, id: u64, record: &Record, ticket: Option<Ticket>) {
        self.metrics.committed += 1;
        self.engine_backlog_bytes -= record.weight();
        let scratch = &mut self.scratch;
        self.registry.publish(&record.stream(), id, self.moment.stamp, || encode(id, record, scratch));
        self.answer_stored(id, record, ticket);
    }

    fn answer_stored(&mut self, id: u64, record: &Record, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else { return };
        match record {
            Record::Message(message) => {
                let message = NumberedMessage { id, message };
                self.answer_json(ticket, "{\"success\":true,\"message\":", &message, "}");
            }
            Record::Event(event) => {
                let mut body = b"{\"success\":true,\"event\":".to_vec();
                write_event(id, event, &mut body);
                body.push(b'}');
                self.answer_request(ticket, Status::OK, &body);
            }
        }
    }

    fn answer_json(&mut self, ticket: Ticket, before: &str, value: &impl serde::Serialize, after: &str) {
        let mut body = before.as_bytes().to_vec();
        write_json(value, &mut body);
        body.extend_from_slice(after.as_bytes());
        self.answer_request(ticket, Status::OK, &body);
    }

    fn answer_request(&mut self, ticket: Ticket, status: Status, body: &[u8]) {
        if let Some(Ask::Request { connection, exchange }) = self.take_ask(ticket) {
            self.answer(connection, &exchange, status, body);
        }
    }

    fn answer_error(&mut self, ticket: Ticket, error: &EngineError) {
        match self.take_ask(ticket) {
            Some(Ask::Request { connection, exchange }) => {
                let body = super::routes::detail_body(&format!("the store is not available: {error}"));
                self.answer(connection, &exchange, Status::SERVICE_UNAVAILABLE, &body);
            }
            Some(Ask::Page { serial, after, waiters }) => {
                self.pages_asked.remove(&(serial, after));
                for id in waiters {
                    self.give_up_on(id);
                }
            }
            None => {}
        }
    }

    /// A subscriber whose history cannot be read now resumes when it comes again;
    /// going on without would leave a hole.
    fn give_up_on(&mut self, id: Id) {
        if self.find(id).is_some_and(|connection| connection.writing == Writing::Paging) {
            self.at(id.index).writing = Writing::Ready;
            self.close(id.index, CloseCode::Again, "history cannot be read now", CloseReason::StoreFailed);
        }
    }

    fn take_ask(&mut self, ticket: Ticket) -> Option<Ask> {
        self.asks.try_remove(usize::try_from(ticket.0).ok()?)
    }

    fn apply_page(&mut self, ticket: Ticket, records: &[(u64, Record)], through: u64) {
        let Some(Ask::Page { serial, after, waiters }) = self.take_ask(ticket) else { return };
        self.pages_asked.remove(&(serial, after));
        let frames =
            records.iter().map(|(id, record)| (*id, encode(*id, record, &mut self.scratch))).collect();
        self.clear_scratch();
        self.pages.push_back(Page { frames, after, through, waiters });
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
