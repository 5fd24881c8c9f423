//! `GET /metrics`: what is counted, in the Prometheus text format. The server keeps plain
//! numbers; they get their names here, on request.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::base::histogram::Histogram;
use crate::base::limit::Limit;
use crate::hub::entry::Encoding;
use crate::server::connections::{CloseReason, ConnectionKind};
use crate::server::host::{LoopTimings, Process, ProcessStats};
use crate::server::metrics::Metrics;
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::store::engine::{Commits, Health};

use super::counts::{ConnectionCounts, count_connections};

/// Buckets of times, as powers of two of a microsecond: from 16 us to 4 s.
const TIME_BUCKETS: (usize, usize) = (4, 22);

/// Buckets of records: from 1 to 2,048, which is as many as a turn takes in.
const RECORD_BUCKETS: (usize, usize) = (0, 11);

/// Everything that is told, with its present values.
#[derive(Debug)]
struct Exposition {
    metrics: Metrics,
    timings: LoopTimings,
    process: ProcessStats,
    commits: Option<Commits>,
    connections: ConnectionCounts,
    gauges: Vec<(&'static str, &'static str, u64)>,
    subscribers: [(&'static str, u64); Encoding::ALL.len()],
    newest: [(&'static str, u64); 2],
}

/// All metrics as text.
pub(in crate::server) fn exposition<S: Socket>(owners: &Owners<S>, process: &Process) -> String {
    let counts = owners.connections.counts();
    let is_storing_well = u64::from(*owners.store.health() == Health::Sound);
    let exposition = Exposition {
        metrics: owners.metrics.clone(),
        timings: process.timings.clone(),
        process: process.host.process_stats(owners.connections.len()),
        commits: owners.store.commits().cloned(),
        connections: count_connections(owners),
        gauges: vec![
            ("polecat_store_up", "1 if the last attempt to store records succeeded", is_storing_well),
            (
                "polecat_records_waiting",
                "Records that wait to be stored",
                owners.store.backlog_records() as u64,
            ),
            (
                "polecat_channels",
                "Channels with subscribers, including the event stream",
                owners.hub.len() as u64,
            ),
            (
                "polecat_lagging_subscribers",
                "Subscribers whose socket is full, or for whom history is being read",
                (counts.lagging + owners.subscriptions.lagging()) as u64,
            ),
            (
                "polecat_subscriptions",
                "Subscriptions of connections to /api/stream",
                owners.subscriptions.len() as u64,
            ),
            (
                "polecat_log_bytes",
                "Bytes of the newest messages, which are kept in memory",
                owners.hub.logs_bytes() as u64,
            ),
            (
                "polecat_inbox_bytes",
                "Bytes of unfinished messages and requests that have arrived",
                (owners.connections.inboxes_bytes() + owners.subscriptions.requests_bytes()) as u64,
            ),
            (
                "polecat_outbox_bytes",
                "Bytes that are not sent yet",
                owners.connections.outboxes_bytes() as u64,
            ),
        ],
        subscribers: Encoding::ALL
            .map(|encoding| (encoding.name(), counts.subscribers[encoding as usize] as u64)),
        newest: [("messages", owners.store.newest_message()), ("events", owners.store.newest_event())],
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(exposition));
    let mut text = String::new();
    // It writes only into memory.
    let is_written = prometheus_text::encode(&mut text, &registry).is_ok();
    debug_assert!(is_written);
    text
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = FamilyWriter(&mut encoder);
        let version = [(env!("CARGO_PKG_VERSION"), 1)];
        page.family(
            "polecat_build_info",
            "Always 1; the label is the version",
            "version",
            version,
            ConstGauge::new,
        )?;
        self.encode_connections(&mut page)?;
        self.encode_traffic(&mut page)?;
        for (name, help, value) in &self.gauges {
            page.gauge(name, help, *value)?;
        }
        let help = "Subscribers, by how their messages are encoded";
        page.family("polecat_subscribers", help, "encoding", self.subscribers, ConstGauge::new)?;
        page.family(
            "polecat_newest_id",
            "The newest id of each sequence",
            "sequence",
            self.newest,
            ConstGauge::new,
        )?;
        let limits = Limit::ALL.iter().map(|limit| (limit.name(), self.metrics.limits.of(*limit)));
        page.family(
            "polecat_limit_hits",
            "How often each limit was reached",
            "limit",
            limits,
            ConstCounter::new,
        )?;
        self.encode_loop(&mut page)?;
        self.encode_commits(&mut page)?;
        self.encode_process(&mut page)
    }
}

impl Exposition {
    fn encode_connections(&self, page: &mut FamilyWriter<'_, '_>) -> fmt::Result {
        let ConnectionCounts { max, http, events, channel, stream, echo, closing, .. } = self.connections;
        let counts = [http, events, channel, stream, echo, closing].map(|count| count as u64);
        let kinds = [
            ConnectionKind::Http,
            ConnectionKind::Events,
            ConnectionKind::Channel,
            ConnectionKind::Stream,
            ConnectionKind::Echo,
            ConnectionKind::Closing,
        ]
        .map(ConnectionKind::name);
        let by_kind = kinds.into_iter().zip(counts);
        page.family("polecat_connections", "Open connections by kind", "kind", by_kind, ConstGauge::new)?;
        if let Some(max) = max {
            page.gauge("polecat_connections_max", "Maximum number of open connections", max as u64)?;
        }
        let metrics = &self.metrics;
        page.counter("polecat_connections_accepted", "Connections accepted", metrics.accepted)?;
        let help = "Connections that the peer or the network ended before they were accepted";
        page.counter("polecat_connections_lost", help, metrics.lost)?;
        let closed = CloseReason::ALL.iter().map(|reason| (reason.name(), metrics.closed_for(*reason)));
        page.family(
            "polecat_connections_closed",
            "Closed connections by reason",
            "reason",
            closed,
            ConstCounter::new,
        )?;
        page.counter("polecat_upgrades", "WebSocket handshakes completed", metrics.upgrades)?;
        page.counter("polecat_requests", "HTTP requests answered or refused", metrics.requests)?;
        let help = "Requests refused because of their origin";
        page.counter("polecat_foreign_origins", help, metrics.foreign_origins)?;
        page.counter("polecat_heartbeats", "Heartbeats sent", metrics.heartbeats)
    }

    fn encode_traffic(&self, page: &mut FamilyWriter<'_, '_>) -> fmt::Result {
        let metrics = &self.metrics;
        for (name, help, value) in [
            ("polecat_messages_received", "WebSocket messages received", metrics.messages_received),
            ("polecat_bytes_received", "Bytes read from sockets", metrics.bytes_received),
            ("polecat_bytes_sent", "Bytes written to sockets", metrics.bytes_sent),
            (
                "polecat_invalid_messages",
                "Messages received that the protocol does not allow",
                metrics.invalid_messages,
            ),
            ("polecat_records_committed", "Messages and events stored", metrics.committed),
            (
                "polecat_records_repeated",
                "Records not stored because their idempotency key had been used before",
                metrics.repeated,
            ),
            ("polecat_records_refused", "Records that could not be stored", metrics.refused),
            ("polecat_deliveries", "Stored messages and events sent to subscribers", metrics.deliveries),
            (
                "polecat_delivery_writes",
                "Writes that sent deliveries; deliveries divided by these is frames per write",
                metrics.delivery_writes,
            ),
            (
                "polecat_deflate_in_bytes",
                "Bytes of payloads before compression; a broadcast counts once",
                metrics.coded.deflate_in,
            ),
            (
                "polecat_deflate_out_bytes",
                "Bytes of payloads after compression; divided by the bytes in, the ratio",
                metrics.coded.deflate_out,
            ),
            ("polecat_inflate_in_bytes", "Bytes of compressed payloads received", metrics.coded.inflate_in),
            (
                "polecat_inflate_out_bytes",
                "Bytes of these payloads after decompression",
                metrics.coded.inflate_out,
            ),
            (
                "polecat_history_pages",
                "Pages of history read for subscribers behind the log in memory",
                metrics.pages,
            ),
            ("polecat_store_reads_failed", "Reads of the store that failed", metrics.reads_failed),
        ] {
            page.counter(name, help, value)?;
        }
        Ok(())
    }

    fn encode_loop(&self, page: &mut FamilyWriter<'_, '_>) -> fmt::Result {
        page.counter("polecat_turns", "Turns of the loop", self.metrics.turns)?;
        page.counter(
            "polecat_wakeups",
            "Returns from a poll that was allowed to sleep",
            self.timings.wakeups,
        )?;
        let help = "Time in which the loop was stalled";
        page.counter("polecat_stalled_seconds", help, self.metrics.stalled_ms as f64 / 1e3)?;
        let help = "Time from the end of a poll to the next poll";
        page.times("polecat_turn_duration_seconds", help, &self.timings.turn_us)?;
        let help = "Time by which a poll returned later than requested";
        page.times("polecat_loop_lag_seconds", help, &self.timings.lag_us)
    }

    fn encode_commits(&self, page: &mut FamilyWriter<'_, '_>) -> fmt::Result {
        let Some(commits) = &self.commits else { return Ok(()) };
        let help = "Time of each transaction that stored records";
        page.times("polecat_commit_duration_seconds", help, &commits.duration_us)?;
        let help = "Records stored in each transaction";
        page.histogram("polecat_commit_records", help, &commits.records, RECORD_BUCKETS, 1.0)?;
        let help = "Time for which a checkpoint of the write-ahead log blocked the loop";
        page.times("polecat_checkpoint_duration_seconds", help, &commits.checkpoint_us)?;
        let help = "Approximate bytes of the write-ahead log that await a checkpoint";
        page.gauge("polecat_wal_pending_bytes", help, commits.wal_pending_bytes)?;
        let help = "Records in the database that its indexes do not find; above 0, it is damaged";
        page.gauge("polecat_store_faults", help, commits.faults)
    }

    /// The process, by the metric names that all programs use.
    fn encode_process(&self, page: &mut FamilyWriter<'_, '_>) -> fmt::Result {
        let process = &self.process;
        if let Some(seconds) = process.cpu_seconds {
            page.counter("process_cpu_seconds", "Processor time, user and system", seconds)?;
        }
        if let Some(seconds) = process.started_unix_seconds {
            page.gauge("process_start_time_seconds", "Start time in seconds since 1970", seconds)?;
        }
        for (name, help, value) in [
            ("process_open_fds", "Open descriptors", process.descriptors),
            ("process_max_fds", "Maximum number of open descriptors", process.descriptors_max),
            ("process_resident_memory_bytes", "Resident memory", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", process.virtual_bytes),
        ] {
            if let Some(value) = value {
                page.gauge(name, help, value)?;
            }
        }
        Ok(())
    }
}

/// Where metrics are written; those of counters get their `_total` there.
struct FamilyWriter<'p, 'e>(&'p mut DescriptorEncoder<'e>);

impl FamilyWriter<'_, '_> {
    fn one(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        self.one(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.one(name, help, &ConstGauge::new(value))
    }

    /// A metric with a value for each value of a label.
    fn family<M: EncodeMetric + TypedMetric>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, M::TYPE)?;
        for (value, count) in values {
            metric(count).encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn times(&mut self, name: &str, help: &str, micros: &Histogram) -> fmt::Result {
        self.histogram(name, help, micros, TIME_BUCKETS, 1e6)
    }

    /// A histogram of values of which there are `per_unit` in a unit.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
        (first, last): (usize, usize),
        per_unit: f64,
    ) -> fmt::Result {
        let buckets = histogram.buckets(first, last).map(|(bound, count)| (bound as f64 / per_unit, count));
        let buckets = buckets.collect::<Vec<_>>();
        let sum = histogram.sum() as f64 / per_unit;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
    }
}
