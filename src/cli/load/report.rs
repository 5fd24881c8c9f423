//! The report of a run: a table for people, one JSON object for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::order::Faults;
use crate::load::plan::Workload;
use crate::load::tally::{Summary, Tally};

/// The report of a run. Times are in microseconds if the name says so.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) workload: &'static str,
    pub(super) url: String,
    pub(super) interrupted: bool,
    /// Connections that were open when measuring began.
    pub(super) connections: u32,
    /// Connections that were open at the end.
    pub(super) alive: u32,
    pub(super) seconds: f64,
    pub(super) operations_per_second: f64,
    pub(super) latency_us: Option<Summary>,
    pub(super) handshakes_per_second: f64,
    pub(super) handshake_latency_us: Option<Summary>,
    pub(super) received_bytes_per_operation: Option<f64>,
    #[serde(flatten)]
    pub(super) tally: Tally,
    #[serde(flatten)]
    pub(super) faults: Faults,
    pub(super) server: Option<ServerUsage>,
    pub(super) client: Option<ClientUsage>,
}

/// The resources that the server used, if it runs on this machine.
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

#[derive(Debug, Serialize)]
pub(super) struct ClientUsage {
    pub(super) cpu_ns_per_operation: Option<f64>,
    /// The part of the measured time that was spent on a processor, and whether that is all that one thread
    /// can do.
    pub(super) cpu_share: Option<f64>,
    pub(super) is_limit: bool,
    pub(super) resident_bytes_per_connection: Option<f64>,
}

/// A thread that spends more of its time than this on a processor hardly ever waits.
const SHARE_OF_LIMIT: f64 = 0.9;

impl ClientUsage {
    /// `has_rate` says whether messages are sent at a rate instead of as fast as possible. Then the generator
    /// polls the clock instead of sleeping, so it is busy without being a bottleneck.
    pub(super) fn new(cpu_ns_per_operation: Option<f64>, cpu_share: Option<f64>, has_rate: bool) -> Self {
        let is_limit = !has_rate && cpu_share.is_some_and(|share| share >= SHARE_OF_LIMIT);
        Self { cpu_ns_per_operation, cpu_share, is_limit, resident_bytes_per_connection: None }
    }

    fn text(&self) -> Option<String> {
        let limit = if self.is_limit { ": the client is the limit, not the server" } else { "" };
        Some(format!("{:.0} % of a processor{limit}", self.cpu_share? * 100.0))
    }
}

impl Report {
    /// Whether everything arrived, and no well-behaved connection was closed.
    pub(super) fn is_good(&self) -> bool {
        [self.faults.lost, self.faults.doubled, self.faults.disordered, self.tally.wrong] == [0; 4]
            && self.tally.ended.is_empty()
            && self.connections > 0
    }

    pub(super) fn table(&self) -> String {
        let early = if self.interrupted { ", interrupted" } else { "" };
        let mut table = format!("{} {}{early}\n", self.workload, self.url);
        let client = self.client.as_ref().and_then(ClientUsage::text).map(|text| ("client", text));
        let rows = [
            self.connection_rows(),
            self.operation_rows(),
            client.into_iter().collect(),
            self.server_rows(),
            self.fault_rows(),
        ];
        for (name, value) in rows.into_iter().flatten() {
            let _ = writeln!(table, "  {name:<30} {value}");
        }
        table
    }

    fn is_idle(&self) -> bool {
        self.workload == Workload::Idle.name()
    }

    fn connection_rows(&self) -> Vec<Row> {
        let mut rows =
            vec![("connections, alive at the end", format!("{}, {}", self.connections, self.alive))];
        if self.tally.handshakes > 0 {
            let rate = format!("{} ({:.0}/s)", self.tally.handshakes, self.handshakes_per_second);
            rows.push(("handshakes", rate));
        }
        rows.extend(self.handshake_latency_us.iter().map(|us| ("handshake latency", latency_text(us))));
        rows
    }

    fn operation_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let is_quiet = self.tally.pings + self.tally.pongs + self.tally.other_texts == 0;
        let latency = self.latency_us.as_ref().map(latency_text);
        if self.is_idle() {
            rows.push(("held for", format!("{:.1} s", self.seconds)));
            let (pings, pongs, messages) = (self.tally.pings, self.tally.pongs, self.tally.other_texts);
            let heartbeats = format!("{pings} pings, {pongs} pongs, {messages} messages");
            rows.push(("heartbeats seen", if is_quiet { "none".to_owned() } else { heartbeats }));
            rows.extend(latency.map(|latency| ("broadcast latency", latency)));
        } else {
            let rate = self.operations_per_second;
            rows.push((
                "operations",
                format!("{} in {:.1} s ({rate:.0}/s)", self.tally.operations, self.seconds),
            ));
            rows.extend(latency.map(|latency| ("latency", latency)));
            let bytes = self.received_bytes_per_operation.map(|bytes| format!("{bytes:.0}"));
            rows.extend(bytes.map(|bytes| ("bytes received/operation", bytes)));
            if !is_quiet {
                let (pings, pongs, messages) = (self.tally.pings, self.tally.pongs, self.tally.other_texts);
                rows.push(("pings, pongs, other messages", format!("{pings}, {pongs}, {messages}")));
            }
        }
        rows
    }

    fn server_rows(&self) -> Vec<Row> {
        let Some(server) = &self.server else { return Vec::new() };
        let mut rows = Vec::new();
        let cost = |value: f64| format!("{value:.0}");
        if !self.is_idle() {
            rows.extend(server.cpu_ns_per_operation.map(|ns| ("server ns/operation", cost(ns))));
        }
        rows.extend(server.cpu_ns_per_handshake.map(|ns| ("server ns/handshake", cost(ns))));
        let per = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), cost);
        let (open, end) =
            (per(server.resident_bytes_per_connection_open), per(server.resident_bytes_per_connection));
        rows.push(("server bytes/connection", format!("{open} with all open, {end} at the end")));
        rows
    }

    fn fault_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let faults = [self.faults.lost, self.faults.doubled, self.faults.disordered, self.tally.wrong];
        // If nothing was published, nothing was checked.
        if self.tally.published > 0 || faults != [0; 4] {
            let faults = faults.map(|count| count.to_string()).join(", ");
            rows.push(("lost, duplicated, reordered, wrong", faults));
        }
        let told = |(reason, count): (&String, &u64)| format!("{count}: {reason}");
        rows.extend(self.tally.ended.iter().map(|ended| ("ended too early", told(ended))));
        rows.extend(self.tally.ended_rightly.iter().map(|ended| ("ended as expected", told(ended))));
        rows
    }
}

type Row = (&'static str, String);

fn latency_text(latency: &Summary) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_busy_all_the_time_is_the_limit() {
        for (share, has_rate, is_limit) in
            [(0.97, false, true), (0.9, false, true), (0.89, false, false), (1.0, true, false)]
        {
            let usage = ClientUsage::new(None, Some(share), has_rate);
            assert_eq!(usage.is_limit, is_limit, "{share}");
            let text = usage.text().unwrap_or_default();
            assert_eq!(text.ends_with(": the client is the limit, not the server"), is_limit, "{text}");
            assert!(text.starts_with(&format!("{:.0} %", share * 100.0)), "{text}");
        }
        let unknown = ClientUsage::new(None, None, false);
        assert!(!unknown.is_limit && unknown.text().is_none());
    }
}
