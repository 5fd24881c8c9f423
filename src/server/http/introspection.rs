//! What the server says of itself. One question is answered in a turn, so that many at once delay nothing else.
//! Without room for what is unsent, pages are so short that they need none, and all are sent the same metrics for a
//! moment.

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use serde::ser::{Serialize, Serializer};

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::hub::channel::Run;
use crate::server::connections::{CloseReason, Connection, Phase, Protocol};
use crate::server::host::Process;
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::server::store::Pending;
use crate::wire::body::ConnectionRange;
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{Sequence, write_json};
use crate::wire::v1::SUBPROTOCOL;

use super::counts::{ConnectionCounts, count_connections};
use super::directory::ask_for_channels;
use super::exposition::exposition;
use super::handler::health_report;
use super::inspections::{Inspection, Inspections};
use super::responses::{answer, answer_shared, await_answer, page_bytes_max};
use crate::server::response_context::ResponseContext;

/// Places of the slab that a list of connections looks at. If most are free, the list ends after this many, and the
/// next one goes on there.
pub(in crate::server) const PLACES_MAX: usize = 16 << 10;

/// How long the same metrics are sent if there is no room for new ones.
const METRICS_SHARED_MS: u64 = 1_000;

/// Names and numbers, as an object.
struct Numbers<I>(I);

impl<I: Iterator<Item = (&'static str, u64)> + Clone> Serialize for Numbers<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}

/// What `verbose` adds to the health.
#[derive(serde::Serialize)]
struct Health<'a, C, R, L> {
    version: &'static str,
    uptime_ms: u64,
    engine: EngineState<'a>,
    connections: ConnectionCounts,
    descriptors: Option<Descriptors>,
    memory: Memory,
    r#loop: Loop,
    counters: C,
    closed: R,
    limits: L,
}

#[derive(serde::Serialize)]
struct EngineState<'a> {
    kind: &'static str,
    epoch: &'a str,
    newest_message: String,
    newest_event: String,
    idempotency_window_ms: u64,
    records_waiting: usize,
}

#[derive(serde::Serialize)]
struct Descriptors {
    used: u64,
    max: Option<u64>,
}

#[derive(serde::Serialize)]
struct Memory {
    resident_bytes: Option<u64>,
    logs_bytes: usize,
    inboxes_bytes: usize,
    outboxes_bytes: usize,
}

#[derive(serde::Serialize)]
struct Loop {
    turns: u64,
    turn_us_max: u64,
    lag_us_max: u64,
    stalled_ms: u64,
}

#[derive(serde::Serialize)]
struct Listed<'a> {
    id: u32,
    address: Option<String>,
    kind: &'static str,
    channel: Option<&'a str>,
    subscriptions: Option<usize>,
    protocol: Option<&'static str>,
    age_ms: u64,
    heard_ms: u32,
    lag: u64,
    outbox_bytes: usize,
}

#[derive(serde::Serialize)]
struct Ended<'a> {
    address: Option<String>,
    kind: &'static str,
    channel: Option<&'a str>,
    reason: &'static str,
    age_ms: u64,
    ago_ms: u64,
}

/// Asks for what is answered in this turn, or later if more is asked.
pub(in crate::server) fn ask_inspection<S: Socket>(
    owners: &mut Owners<S>,
    inspections: &mut Inspections,
    index: u32,
    response: ResponseContext,
    inspection: Inspection,
) {
    let pending = await_answer(owners, index, response);
    let query_id = owners.store.insert(pending);
    inspections.push(query_id, inspection);
    owners.connections.await_response(index);
}

/// Answers the next question whose asker is still there.
pub(in crate::server) fn inspect<S: Socket>(
    owners: &mut Owners<S>,
    inspections: &mut Inspections,
    process: &Process,
) {
    for _ in 0..owners.config.budgets.reads {
        let Some((query_id, inspection)) = inspections.next() else { return };
        let Some(Pending::Request { connection, response }) = owners.store.take(query_id) else { continue };
        if owners.connections.find(connection).is_none() {
            continue;
        }
        let (status, body) = match inspection {
            Inspection::Channels(range) => {
                return ask_for_channels(owners, inspections, connection, response, range);
            }
            Inspection::Health => verbose_health(owners, process),
            Inspection::Connections(range) => {
                owners.connections.name_recent_closes();
                (Status::OK, connections_page(owners, range))
            }
            Inspection::Metrics => {
                return answer_metrics(owners, inspections, process, (connection, &response));
            }
        };
        return answer(owners, connection, &response, status, &body, &[]);
    }
}

fn answer_metrics<S: Socket>(
    owners: &mut Owners<S>,
    inspections: &mut Inspections,
    process: &Process,
    (connection, response): (Id, &ResponseContext),
) {
    let extra = [("Content-Type", CONTENT_TYPE)];
    if owners.has_room() {
        inspections.last_metrics = None;
        let text = exposition(owners, process);
        return answer(owners, connection, response, Status::OK, text.as_bytes(), &extra);
    }
    let now_ms = owners.clock.ms();
    let last = inspections.last_metrics.take().filter(|(made_ms, _)| now_ms - made_ms < METRICS_SHARED_MS);
    let (made_ms, text) =
        last.unwrap_or_else(|| (now_ms, Frame::from(exposition(owners, process).into_bytes())));
    inspections.last_metrics = Some((made_ms, text.clone()));
    answer_shared(owners, connection, response, text, &extra);
}

fn verbose_health<S: Socket>(owners: &Owners<S>, process: &Process) -> (Status, Vec<u8>) {
    let (status, mut body) = health_report(owners.store.health(), owners.is_draining());
    let stats = process.host.process_stats(owners.connections.len());
    let now_ms = owners.clock.ms();
    let (turn_us_max, lag_us_max) = process.timings.recent_max(now_ms);
    let report = Health {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: owners.time.now.monotonic_ms.saturating_sub(process.started_ms),
        engine: EngineState {
            kind: owners.store.kind(),
            epoch: owners.store.terms().epoch(),
            newest_message: Sequence::Messages.text(owners.store.newest_message()),
            newest_event: Sequence::Events.text(owners.store.newest_event()),
            idempotency_window_ms: owners.store.idempotency_window_ms(),
            records_waiting: owners.store.backlog_records(),
        },
        connections: count_connections(owners),
        descriptors: stats.descriptors.map(|used| Descriptors { used, max: stats.descriptors_max }),
        memory: Memory {
            resident_bytes: stats.resident_bytes,
            logs_bytes: owners.hub.logs_bytes(),
            inboxes_bytes: owners.connections.inboxes_bytes() + owners.subscriptions.requests_bytes(),
            outboxes_bytes: owners.connections.outboxes_bytes(),
        },
        r#loop: Loop {
            turns: owners.metrics.turns,
            turn_us_max,
            lag_us_max,
            stalled_ms: owners.metrics.stalled_ms,
        },
        counters: Numbers(owners.metrics.counters().into_iter()),
        closed: Numbers(CloseReason::ALL.iter().map(|one| (one.name(), owners.metrics.closed_for(*one)))),
        limits: Numbers(Limit::ALL.iter().map(|one| (one.name(), owners.metrics.limits.of(*one)))),
    };
    let mut more = Vec::new();
    write_json(&report, &mut more);
    // Both are objects that are not empty: the one goes on where the other ends.
    body.pop();
    body.push(b',');
    body.extend_from_slice(&more[1..]);
    (status, body)
}

/// A page of the slab. It is in the order of the places, which are used again.
fn connections_page<S: Socket>(owners: &Owners<S>, range: ConnectionRange) -> Vec<u8> {
    let mut body = b"{\"connections\":[".to_vec();
    let first = range.after.map_or(0, |after| after.saturating_add(1));
    let end = owners.connections.capacity();
    let mut place = usize::try_from(first).unwrap_or(end).min(end);
    let places_end = place.saturating_add(PLACES_MAX).min(end);
    let mut count = 0;
    let bytes_max = page_bytes_max(owners);
    while place < places_end && count < range.limit && body.len() < bytes_max {
        if let (Some(connection), Ok(index)) =
            (u32::try_from(place).ok().and_then(|index| owners.connections.get(index)), u32::try_from(place))
            && connection.phase() != Phase::Dead
        {
            if count > 0 {
                body.push(b',');
            }
            write_json(&listed(owners, index, connection), &mut body);
            count += 1;
        }
        place += 1;
    }
    body.extend_from_slice(b"],\"next\":");
    write_json(&(place < end).then(|| place - 1), &mut body);
    body.extend_from_slice(b",\"closed\":");
    write_ended(owners, bytes_max, &mut body);
    body.push(b'}');
    body
}

fn listed<'a, S: Socket>(owners: &'a Owners<S>, index: u32, connection: &Connection<S>) -> Listed<'a> {
    Listed {
        id: index,
        address: connection.peer().map(|address| address.to_string()),
        kind: owners.kind(connection).name(),
        channel: connection.channel().and_then(|channel| owners.hub.name(channel)).map(|name| &**name),
        subscriptions: connection.set().map(|set| owners.subscriptions.of(set).len()),
        protocol: match connection.phase() {
            Phase::Open(Protocol::Base, _) => Some("base"),
            Phase::Open(Protocol::V1 | Protocol::Many, _) => Some(SUBPROTOCOL),
            _ => None,
        },
        age_ms: owners.connections.age_ms(index, owners.clock.ms()),
        heard_ms: owners.time.stamp.since(connection.heard()),
        lag: lag(owners, connection),
        outbox_bytes: connection.unsent_bytes(),
    }
}

/// How many records there are at most that a subscriber has yet to be sent: those of other
/// channels count, too, but not if none of its own is missing.
fn lag<S: Socket>(owners: &Owners<S>, connection: &Connection<S>) -> u64 {
    let (Some(channel), cursor) = (connection.channel(), connection.cursor()) else { return 0 };
    if matches!(owners.hub.after(channel, cursor), Run::End) {
        return 0;
    }
    owners.hub.newest_for(channel).saturating_sub(cursor)
}

/// Writes the connections that were ended last, up to about that many bytes.
fn write_ended<S: Socket>(owners: &Owners<S>, bytes_max: usize, body: &mut Vec<u8>) {
    let now_ms = owners.clock.ms();
    let start = body.len();
    body.push(b'[');
    for close in owners.connections.recent_closes() {
        if body.len() - start >= bytes_max {
            break;
        }
        if body.len() > start + 1 {
            body.push(b',');
        }
        let ended = Ended {
            address: close.address.map(|address| address.to_string()),
            kind: close.kind.name(),
            channel: close.channel.as_deref(),
            reason: close.reason.name(),
            age_ms: close.age_ms,
            ago_ms: now_ms - close.at_ms,
        };
        write_json(&ended, body);
    }
    body.push(b']');
}
