//! Answers of the engine, and everything that they set off: logs grow from here only, and no client is told of a
//! record before its answer.

use crate::base::id::Id;
use crate::hub::entry::Entry;
use crate::hub::member::Subscriber;
use crate::store::engine::{Answer, EngineError, QueryId, Record};
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{write_event, write_numbered};
use crate::wire::v1::ErrorCode;

use super::http::{Http, Lists, answer, detail_body, send_channels};
use super::owners::Owners;
use super::session::{apply_count, give_up_on, is_awaited};
use super::socket::Socket;
use super::store::{HistoryPage, Pending};

/// Room for what an answer to a POST says beside the record.
const ANSWER_BYTES: usize = 160;

/// Lets the engine commit and answer.
pub(super) fn settle<S: Socket>(owners: &mut Owners<S>, http: &mut Http) {
    let mut answers = owners.store.settle(owners.time.now, owners.config.budgets.engine_reads);
    if !answers.is_empty() {
        answers.drain(..).for_each(|answer| apply(owners, http, answer));
    }
    owners.store.end_settle(answers);
}

fn apply<S: Socket>(owners: &mut Owners<S>, http: &mut Http, answer: Answer) {
    match answer {
        Answer::Committed { id, record, query_id, weight } => {
            owners.store.note_appended(weight);
            publish(owners, id, &record);
            answer_stored(owners, http, query_id, (id, &record), false);
        }
        Answer::Repeated { id, record, query_id, weight } => {
            owners.store.note_appended(weight);
            owners.metrics.repeated += 1;
            answer_stored(owners, http, query_id, (id, &record), true);
        }
        Answer::Refused { query_id, weight, error } => {
            owners.store.note_appended(weight);
            owners.metrics.refused += 1;
            log::debug!("a record could not be stored: {error}");
            answer_error(owners, http, query_id, &error);
        }
        Answer::Failed { query_id, error } => {
            note_failed(owners, &error);
            answer_error(owners, http, Some(query_id), &error);
        }
        Answer::Count { query_id, count, is_cut, oldest } => {
            if let Some(Pending::Resume { connection, from, through }) = take(owners, http, query_id) {
                apply_count(owners, connection, (from, through), (count, is_cut), oldest);
            }
        }
        Answer::ChannelDetails { query_id, channels, is_cut } => {
            if let Some(Pending::Channels { connection, response, range }) = take(owners, http, query_id) {
                send_channels(owners, connection, &response, &range, (&channels, is_cut));
            }
        }
        Answer::Page { query_id, records, through, oldest } => match take(owners, http, query_id) {
            Some(Pending::Page { serial, after, waiters }) => {
                apply_page(owners, (serial, after, waiters), &records, through, oldest);
            }
            Some(Pending::List { connection }) => {
                http.lists.apply_slice(owners, connection, &records, through);
            }
            _ => {}
        },
        Answer::Span { query_id, span } => {
            apply_to_list(owners, http, query_id, |lists, owners, id| lists.apply_span(owners, id, span));
        }
        Answer::Names { query_id, names, next } => {
            apply_to_list(owners, http, query_id, |lists, owners, id| {
                lists.apply_names(owners, id, &names, next);
            });
        }
        Answer::Totals { query_id, messages, tokens } => {
            apply_to_list(owners, http, query_id, |lists, owners, id| {
                lists.apply_totals(owners, id, messages, tokens);
            });
        }
        Answer::TooLarge { query_id } => {
            apply_to_list(owners, http, query_id, |lists, owners, id| lists.apply_too_large(owners, id));
        }
    }
}

/// Puts a record into the log of its channel.
fn publish<S: Socket>(owners: &mut Owners<S>, id: u64, record: &Record) {
    owners.metrics.committed += 1;
    let (encoders, hits) = (&mut owners.encoders, &mut owners.metrics.limits);
    owners.hub.publish(&record.stream(), id, owners.time.stamp, hits, || encoders.frame(id, record));
}

fn note_failed<S: Socket>(owners: &mut Owners<S>, error: &EngineError) {
    owners.metrics.reads_failed += 1;
    // A few lines say it, however many fail.
    if owners.metrics.reads_failed.is_power_of_two() {
        log::warn!("the store could not be read: {error}");
    }
}

/// Takes out what waits for the answer to that query; `None` if it is a list whose client has gone.
fn take<S: Socket>(owners: &mut Owners<S>, http: &mut Http, query_id: QueryId) -> Option<Pending> {
    let pending = owners.store.take(query_id)?;
    match &pending {
        Pending::List { connection } if !http.lists.note_answer(owners, *connection) => return None,
        Pending::Channels { .. } => http.inspections.note_channels_asked(false),
        _ => {}
    }
    Some(pending)
}

fn apply_to_list<S: Socket>(
    owners: &mut Owners<S>,
    http: &mut Http,
    query_id: QueryId,
    apply: impl FnOnce(&mut Lists, &mut Owners<S>, Id),
) {
    if let Some(Pending::List { connection }) = take(owners, http, query_id) {
        apply(&mut http.lists, owners, connection);
    }
}

/// Tells the client that appended a record that it is stored as `id`.
fn answer_stored<S: Socket>(
    owners: &mut Owners<S>,
    http: &mut Http,
    query_id: Option<QueryId>,
    (id, record): (u64, &Record),
    is_repeated: bool,
) {
    match query_id.and_then(|query_id| take(owners, http, query_id)) {
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
            let window = owners.store.idempotency_window();
            let extra = [("Idempotency-Window", &*window), ("Idempotency-Replayed", "true")];
            let extra = &extra[..1 + usize::from(is_repeated)];
            answer(owners, connection, &response, Status::OK, &body, extra);
        }
        Some(Pending::Publish { connection, id: Some(client_id) }) => {
            owners.tell(connection, |envelope, out| envelope.write_ack(&client_id, id, out));
        }
        _ => {}
    }
}

fn answer_error<S: Socket>(
    owners: &mut Owners<S>,
    http: &mut Http,
    query_id: Option<QueryId>,
    error: &EngineError,
) {
    match query_id.and_then(|query_id| take(owners, http, query_id)) {
        Some(Pending::Request { connection, response } | Pending::Channels { connection, response, .. }) => {
            let body = detail_body(&format!("the store is not available: {error}"));
            let extra = [("Retry-After", "1")];
            answer(owners, connection, &response, Status::SERVICE_UNAVAILABLE, &body, &extra);
        }
        Some(Pending::List { connection }) => http.lists.fail(owners, connection, error),
        Some(Pending::Publish { connection, id }) => {
            let message = error.to_string();
            owners.tell(connection, |envelope, out| {
                envelope.write_error(ErrorCode::StoreUnavailable, &message, id.as_ref(), out);
            });
        }
        Some(Pending::Resume { connection, .. }) => {
            give_up_on(owners, Subscriber::of(connection));
        }
        Some(Pending::Page { waiters, .. }) => {
            waiters.into_iter().for_each(|waiter| give_up_on(owners, waiter));
        }
        None => {}
    }
}

/// Keeps a page of history until it is sent, if any subscriber still waits for it.
fn apply_page<S: Socket>(
    owners: &mut Owners<S>,
    (serial, after, waiters): (u64, u64, Vec<Subscriber>),
    records: &[(u64, Record)],
    through: u64,
    oldest: u64,
) {
    if !is_awaited(owners, &waiters, (serial, after)) {
        return;
    }
    let entry = |(id, record): &(u64, Record)| Entry::new(*id, owners.encoders.frame(*id, record));
    let entries = records.iter().map(entry).collect::<Vec<_>>();
    let bytes = entries.iter().map(Entry::bytes).sum();
    owners.store.push_page(HistoryPage { entries, bytes, serial, after, through, oldest, waiters });
}
