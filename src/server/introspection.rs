//! What the server says of itself. One question is answered in a turn, so that many at once delay nothing else.
//! Without room for what is unsent, pages are so short that they need none, and all are sent the same metrics for a
//! moment.

use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use serde::ser::{Serialize, Serializer};

use crate::base::frame::Frame;
use crate::base::id::Id;
use crate::base::limit::Limit;
use crate::hub::channel::Run;
use crate::wire::body::ConnectionRange;
use crate::wire::http::decoder::Status;
use crate::wire::protocol::{Sequence, write_json};
use crate::wire::v1::SUBPROTOCOL;

use super::connections::{CloseReason, Connection, Counts, Endpoint, Level, OWN_BYTES, Phase};
use super::http::health_report;
use super::http::inspections::Inspection;
use super::http::response_context::ResponseContext;
use super::server::Server;
use super::socket::Socket;
use super::store::Pending;

/// Places of the slab that a list of connections looks at. If most are free, the list ends after this many, and the
/// next one goes on there.
const PLACES_MAX: usize = 16 << 10;

/// Bytes at which a page of connections or channels ends.
const PAGE_BYTES_MAX: usize = 256 << 10;

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
    connections: Connections,
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

/// How many connections there are, by kind.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Connections {
    pub(super) open: usize,
    pub(super) max: Option<usize>,
    pub(super) http: usize,
    pub(super) events: usize,
    pub(super) channel: usize,
    pub(super) echo: usize,
    pub(super) closing: usize,
    /// Subscribers among them that take less than they are sent.
    pub(super) lagging: usize,
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

impl<S: Socket> Server<S> {
    /// Asks for what is answered in this turn, or later if more is asked.
    pub(super) fn ask_inspection(&mut self, index: u32, response: ResponseContext, inspection: Inspection) {
        let pending = self.await_answer(index, response);
        let query_id = self.store.insert(pending);
        self.inspections.push(query_id, inspection);
        self.connections.await_response(index);
    }

    /// Whether a question can be answered now.
    pub(super) fn has_to_inspect(&self) -> bool {
        self.inspections.has_next()
    }

    /// Answers the next question whose asker is still there.
    pub(super) fn inspect(&mut self) {
        for _ in 0..self.config.budgets.reads {
            let Some((query_id, inspection)) = self.inspections.next() else { return };
            let Some(Pending::Request { connection, response }) = self.take(query_id) else { continue };
            if self.connections.find(connection).is_none() {
                continue;
            }
            let (status, body) = match inspection {
                Inspection::Channels(range) => return self.ask_for_channels(connection, response, range),
                Inspection::Health => self.verbose_health(),
                Inspection::Connections(range) => {
                    self.connections.name_recent_closes();
                    (Status::OK, self.connections_page(range))
                }
                Inspection::Metrics => return self.answer_metrics(connection, &response),
            };
            return self.answer(connection, &response, status, &body, &[]);
        }
    }

    fn answer_metrics(&mut self, connection: Id, response: &ResponseContext) {
        let extra = [("Content-Type", CONTENT_TYPE)];
        if self.has_room() {
            self.last_metrics = None;
            let text = self.exposition();
            return self.answer(connection, response, Status::OK, text.as_bytes(), &extra);
        }
        let now_ms = self.clock.ms();
        let last = self.last_metrics.take().filter(|(made_ms, _)| now_ms - made_ms < METRICS_SHARED_MS);
        let (made_ms, text) = last.unwrap_or_else(|| (now_ms, Frame::from(self.exposition().into_bytes())));
        self.last_metrics = Some((made_ms, text.clone()));
        self.answer_shared(connection, response, text, &extra);
    }

    /// Bytes at which a page of connections or channels ends. If there is no room for more, it is as much
    /// as each connection may have unsent in any case.
    pub(super) const fn page_bytes_max(&self) -> usize {
        if self.has_room() { PAGE_BYTES_MAX } else { OWN_BYTES / 2 }
    }

    fn verbose_health(&self) -> (Status, Vec<u8>) {
        let (status, mut body) = health_report(self.store.health(), self.is_draining());
        let process = self.host.process_stats(self.connections.len());
        let now_ms = self.clock.ms();
        let (turn_us_max, lag_us_max) = self.timings.recent_max(now_ms);
        let report = Health {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: self.time.now.monotonic_ms.saturating_sub(self.started_ms),
            engine: EngineState {
                kind: self.store.kind(),
                epoch: self.store.terms().epoch(),
                newest_message: numbered(Sequence::Messages, self.store.newest_message()),
                newest_event: numbered(Sequence::Events, self.store.newest_event()),
                idempotency_window_ms: self.store.idempotency_window_ms(),
                records_waiting: self.store.backlog_records(),
            },
            connections: self.count_connections(),
            descriptors: process.descriptors.map(|used| Descriptors { used, max: process.descriptors_max }),
            memory: Memory {
                resident_bytes: process.resident_bytes,
                logs_bytes: self.hub.logs_bytes(),
                inboxes_bytes: self.connections.inboxes_bytes(),
                outboxes_bytes: self.connections.outboxes_bytes(),
            },
            r#loop: Loop {
                turns: self.metrics.turns,
                turn_us_max,
                lag_us_max,
                stalled_ms: self.metrics.stalled_ms,
            },
            counters: Numbers(self.metrics.counters().into_iter()),
            closed: Numbers(CloseReason::ALL.iter().map(|one| (one.name(), self.metrics.closed_for(*one)))),
            limits: Numbers(Limit::ALL.iter().map(|one| (one.name(), self.metrics.limits.of(*one)))),
        };
        let mut more = Vec::new();
        write_json(&report, &mut more);
        // Both are objects that are not empty: the one goes on where the other ends.
        body.pop();
        body.push(b',');
        body.extend_from_slice(&more[1..]);
        (status, body)
    }

    /// Counts of connections from the totals that are kept, without looking at any connection.
    pub(super) fn count_connections(&self) -> Connections {
        let Counts { http, open, echo, closing, lagging, .. } = self.connections.counts();
        let events = self.hub.event_members();
        let max = self.config.limits.connections_max;
        Connections {
            open: http + open + closing,
            max: (max < usize::MAX).then_some(max),
            http,
            events,
            channel: open - events - echo,
            echo,
            closing,
            lagging,
        }
    }

    /// A page of the slab. It is in the order of the places, which are used again.
    fn connections_page(&self, range: ConnectionRange) -> Vec<u8> {
        let mut body = b"{\"connections\":[".to_vec();
        let first = range.after.map_or(0, |after| after.saturating_add(1));
        let end = self.connections.capacity();
        let mut place = usize::try_from(first).unwrap_or(end).min(end);
        let places_end = place.saturating_add(PLACES_MAX).min(end);
        let mut listed = 0;
        let bytes_max = self.page_bytes_max();
        while place < places_end && listed < range.limit && body.len() < bytes_max {
            if let (Some(connection), Ok(index)) = (
                u32::try_from(place).ok().and_then(|index| self.connections.get(index)),
                u32::try_from(place),
            ) && connection.phase() != Phase::Dead
            {
                if listed > 0 {
                    body.push(b',');
                }
                write_json(&self.listed(index, connection), &mut body);
                listed += 1;
            }
            place += 1;
        }
        body.extend_from_slice(b"],\"next\":");
        write_json(&(place < end).then(|| place - 1), &mut body);
        body.extend_from_slice(b",\"closed\":");
        self.write_ended(bytes_max, &mut body);
        body.push(b'}');
        body
    }

    fn listed<'a>(&'a self, index: u32, connection: &Connection<S>) -> Listed<'a> {
        let subscription = match connection.phase() {
            Phase::Open(Endpoint::Events(level) | Endpoint::Channel(level)) => Some(level),
            _ => None,
        };
        let kind = connection.phase().kind();
        Listed {
            id: index,
            address: connection.peer().map(|address| address.to_string()),
            kind: kind.name(),
            channel: connection.channel().and_then(|channel| self.hub.name(channel)).map(|name| &**name),
            protocol: subscription.map(|level| if level == Level::Base { "base" } else { SUBPROTOCOL }),
            age_ms: self.connections.age_ms(index, self.clock.ms()),
            heard_ms: self.time.stamp.since(connection.heard()),
            lag: self.lag(connection),
            outbox_bytes: connection.unsent_bytes(),
        }
    }

    /// How many records there are at most that a subscriber has yet to be sent: those of other
    /// channels count, too, but not if none of its own is missing.
    fn lag(&self, connection: &Connection<S>) -> u64 {
        let (Some(channel), cursor) = (connection.channel(), connection.cursor()) else { return 0 };
        if matches!(self.hub.after(channel, cursor), Run::End) {
            return 0;
        }
        self.hub.newest_for(channel).saturating_sub(cursor)
    }

    /// Writes the connections that were ended last, up to about that many bytes.
    fn write_ended(&self, bytes_max: usize, body: &mut Vec<u8>) {
        let now_ms = self.clock.ms();
        let start = body.len();
        body.push(b'[');
        for close in self.connections.recent_closes() {
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
}

pub(super) fn numbered(sequence: Sequence, id: u64) -> String {
    let mut text = Vec::new();
    sequence.write(id, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests;
