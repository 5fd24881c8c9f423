//! What a run counts.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies up to ten minutes, in microseconds, to three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

const LATENCY_US_MAX: u64 = 600_000_000;

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are legal, and constant.
        Self(Histogram::new_with_max(LATENCY_US_MAX, 3).unwrap_or_else(|_| unreachable!("legal bounds")))
    }
}

impl Latencies {
    /// Counts one; what is longer than can be said counts as the longest.
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// Their distribution; `None` where there are none.
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

/// A distribution of latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub p50: u64,
    /// Nine of ten are below.
    pub p90: u64,
    /// 99 of 100 are below.
    pub p99: u64,
    /// 999 of 1,000 are below.
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
}

/// Counters of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Echoes, deliveries, answers, or frames of heartbeats while it counts.
    pub operations: u64,
    /// From sending, or when that was due, to receiving.
    #[serde(skip)]
    pub latencies: Latencies,
    /// Handshakes that were completed, and from the connect to the 101.
    pub handshakes: u64,
    /// The same as a distribution.
    #[serde(skip)]
    pub handshake_latencies: Latencies,
    /// Ping frames, each answered.
    pub pings: u64,
    /// Pong frames, which nobody has asked for: heartbeats, too.
    pub pongs: u64,
    /// Text that bears no payload: heartbeats, greetings.
    pub other_texts: u64,
    /// Bytes read from all sockets from when it began to count.
    pub received_bytes: u64,
    /// Payloads that were published.
    pub published: u64,
    /// Echoes, deliveries and answers that were not what had to come: other bytes, binary for text, or nothing that was
    /// sent.
    pub wrong: u64,
    /// Connections that ended before the run did, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Connections that broke the rules on purpose and were ended for it, by reason.
    pub ended_rightly: BTreeMap<String, u64>,
}
