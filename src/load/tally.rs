//! The counters of a run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of up to ten minutes, in microseconds, to three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

const LATENCY_US_MAX: u64 = 600_000_000;

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constant and legal.
        Self(Histogram::new_with_max(LATENCY_US_MAX, 3).unwrap_or_else(|_| unreachable!("legal bounds")))
    }
}

impl Latencies {
    /// Counts one; a longer one than can be represented counts as the longest.
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// Their distribution; `None` if there are none.
    pub fn summary(&self) -> Option<Summary> {
        (!self.0.is_empty()).then(|| Summary {
            p50: self.0.value_at_quantile(0.5),
            p90: self.0.value_at_quantile(0.9),
            p99: self.0.value_at_quantile(0.99),
            p999: self.0.value_at_quantile(0.999),
            max: self.0.max(),
            mean: self.0.mean(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Echoes, deliveries, responses, or frames of heartbeats while the run measures.
    pub operations: u64,
    /// From sending, or from the time when sending was due, to receiving.
    #[serde(skip)]
    pub latencies: Latencies,
    /// Completed handshakes, and the time from the connect to the 101.
    pub handshakes: u64,
    #[serde(skip)]
    pub handshake_latencies: Latencies,
    /// Ping frames, each answered.
    pub pings: u64,
    /// Unsolicited Pong frames; heartbeats are among them.
    pub pongs: u64,
    /// Text without a payload: heartbeats, control messages.
    pub other_texts: u64,
    /// Bytes read from all sockets since measuring began.
    pub received_bytes: u64,
    pub published: u64,
    /// Echoes, deliveries and responses that were not the expected ones: other bytes, binary instead of text,
    /// or nothing that was sent.
    pub wrong: u64,
    /// Connections that ended before the run did, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Connections that broke the rules on purpose and were closed for it, by reason.
    pub ended_rightly: BTreeMap<String, u64>,
}
