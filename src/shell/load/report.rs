//! What a run came to: a table for people, one JSON object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::load::tally::Summary;

/// What a run came to. Times are in microseconds where a name says so.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) workload: &'static str,
    pub(super) url: String,
    /// Connections that were open when it began to count.
    pub(super) connections: u32,
    /// Those that were open at the end.
    pub(super) alive: u32,
    /// For how long it counted.
    pub(super) seconds: f64,
    /// Echoes, deliveries, answers or heartbeats in that time.
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) latency_us: Option<Summary>,
    pub(super) handshakes: u64,
    pub(super) handshakes_per_second: f64,
    pub(super) handshake_latency_us: Option<Summary>,
    pub(super) published: u64,
    pub(super) pings: u64,
    pub(super) other_texts: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) disordered: u64,
    pub(super) wrong: u64,
    /// Connections that ended before the run did, by reason.
    pub(super) ended: BTreeMap<String, u64>,
    /// Connections that broke the rules on purpose and were ended for it, by reason.
    pub(super) ended_rightly: BTreeMap<String, u64>,
    pub(super) server: Option<ServerUsage>,
    pub(super) client: Option<ClientUsage>,
}

/// What the server used of its machine, which is this one.
#[derive(Debug, Serialize)]
pub(super) struct ServerUsage {
    pub(super) pids: Vec<u32>,
    pub(super) cpu_seconds: f64,
    pub(super) cpu_ns_per_operation: Option<f64>,
    pub(super) cpu_ns_per_handshake: Option<f64>,
    pub(super) resident_bytes_before: u64,
    /// When all connections were open.
    pub(super) resident_bytes_open: u64,
    /// At the end.
    pub(super) resident_bytes: u64,
    pub(super) resident_bytes_per_connection_open: Option<f64>,
    pub(super) resident_bytes_per_connection: Option<f64>,
}

/// What the load generator used itself.
#[derive(Debug, Serialize)]
pub(super) struct ClientUsage {
    pub(super) cpu_ns_per_operation: Option<f64>,
    pub(super) resident_bytes_per_connection: Option<f64>,
}

impl Report {
    /// Whether everything came that had to, and nobody who kept the rules was ended.
    pub(super) fn is_good(&self) -> bool {
        [self.lost, self.doubled, self.disordered, self.wrong] == [0; 4]
            && self.ended.is_empty()
            && self.connections > 0
    }

    /// The table.
    pub(super) fn table(&self) -> String {
        let mut table = format!("{} {}\n", self.workload, self.url);
        let mut row = |name: &str, value: String| {
            let _ = writeln!(table, "  {name:<30} {value}");
        };
        row("connections, alive at the end", format!("{}, {}", self.connections, self.alive));
        row("handshakes", format!("{} ({:.0}/s)", self.handshakes, self.handshakes_per_second));
        if let Some(latency) = &self.handshake_latency_us {
            row("handshake latency", latency_text(latency));
        }
        row(
            "operations",
            format!("{} in {:.1} s ({:.0}/s)", self.operations, self.seconds, self.operations_per_second),
        );
        if let Some(latency) = &self.latency_us {
            row("latency", latency_text(latency));
        }
        row("pings, other messages", format!("{}, {}", self.pings, self.other_texts));
        if let Some(server) = &self.server {
            let per =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
            row("server ns/operation", per(server.cpu_ns_per_operation));
            row("server ns/handshake", per(server.cpu_ns_per_handshake));
            row(
                "server bytes/connection",
                format!(
                    "{} when all were open, {} at the end",
                    per(server.resident_bytes_per_connection_open),
                    per(server.resident_bytes_per_connection)
                ),
            );
        }
        let faults = format!("{}, {}, {}, {}", self.lost, self.doubled, self.disordered, self.wrong);
        row("lost, doubled, swapped, wrong", faults);
        for (reason, count) in &self.ended {
            row("ended too early", format!("{count}: {reason}"));
        }
        for (reason, count) in &self.ended_rightly {
            row("ended for good reason", format!("{count}: {reason}"));
        }
        table
    }
}

fn latency_text(latency: &Summary) -> String {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
    let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {} ms",
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max)
    )
}
