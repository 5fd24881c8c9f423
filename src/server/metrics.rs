//! What the server counts. Everything dropped, closed or refused has a reason here.

use crate::base::limit::LimitHits;

use super::connections::CloseReason;

/// Bytes of the payloads of messages, and of lists, before and after compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodedBytes {
    /// Bytes to compress: those of a broadcast once, however many members get it.
    pub deflate_in: u64,
    /// Bytes after that; the same number if they would not have become fewer.
    pub deflate_out: u64,
    /// Compressed messages received.
    pub inflate_in: u64,
    /// What they came to.
    pub inflate_out: u64,
    /// Lists, before they were compressed.
    pub gzip_in: u64,
    /// What they came to.
    pub gzip_out: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections lost before they were accepted.
    pub lost: u64,
    /// Connections ended, by [`CloseReason`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// WebSocket handshakes completed.
    pub upgrades: u64,
    /// HTTP requests answered or refused.
    pub requests: u64,
    /// How often something was refused, closed, evicted or delayed because of a limit, by limit.
    pub limits: LimitHits,
    /// WebSocket handshakes refused because of their `Origin`.
    pub foreign_origins: u64,
    /// WebSocket messages received whole, control frames not counted.
    pub messages_received: u64,
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Bytes that sockets have taken.
    pub bytes_sent: u64,
    /// Messages of clients that were not messages of the protocol.
    pub invalid_messages: u64,
    /// Records committed.
    pub committed: u64,
    /// Records that were not stored since their key was used before.
    pub repeated: u64,
    /// Records that could not be stored.
    pub refused: u64,
    /// Frames of channels handed to sockets.
    pub deliveries: u64,
    /// Writes in which these were, one or several in each.
    pub delivery_writes: u64,
    /// What compression has done.
    pub coded: CodedBytes,
    /// Pages of history that were asked for because a cursor was behind a log.
    pub pages: u64,
    /// Questions that the store could not answer.
    pub reads_failed: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Milliseconds in which the loop was not attending.
    pub stalled_ms: u64,
    /// Turns.
    pub turns: u64,
}

impl Metrics {
    /// How many connections were ended for `reason`.
    #[must_use]
    pub const fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Every counter that is neither for a [`CloseReason`] nor for a limit, with its name.
    #[must_use]
    pub const fn counters(&self) -> [(&'static str, u64); 25] {
        [
            ("accepted", self.accepted),
            ("lost", self.lost),
            ("upgrades", self.upgrades),
            ("requests", self.requests),
            ("foreign_origins", self.foreign_origins),
            ("messages_received", self.messages_received),
            ("bytes_received", self.bytes_received),
            ("bytes_sent", self.bytes_sent),
            ("invalid_messages", self.invalid_messages),
            ("committed", self.committed),
            ("repeated", self.repeated),
            ("refused", self.refused),
            ("deliveries", self.deliveries),
            ("delivery_writes", self.delivery_writes),
            ("deflate_in_bytes", self.coded.deflate_in),
            ("deflate_out_bytes", self.coded.deflate_out),
            ("inflate_in_bytes", self.coded.inflate_in),
            ("inflate_out_bytes", self.coded.inflate_out),
            ("gzip_in_bytes", self.coded.gzip_in),
            ("gzip_out_bytes", self.coded.gzip_out),
            ("pages", self.pages),
            ("reads_failed", self.reads_failed),
            ("heartbeats", self.heartbeats),
            ("stalled_ms", self.stalled_ms),
            ("turns", self.turns),
        ]
    }

    /// Lines that tell all that is not zero.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let counted = self.counters().into_iter().filter(|(_, count)| *count > 0);
        let counters = counted.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>();
        let closed = CloseReason::ALL.map(|reason| (reason.name(), self.closed_for(reason)));
        let closed = closed.into_iter().filter(|(_, count)| *count > 0);
        let limits =
            self.limits.iter().map(|(limit, count)| format!("limit {} reached: {count}", limit.name()));
        std::iter::once(format!("counters: {}", counters.join(", ")))
            .chain(closed.map(|(name, count)| format!("closed for {name}: {count}")))
            .chain(limits)
            .collect()
    }

    /// Counts one more.
    pub const fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
        if let Some(limit) = reason.limit() {
            self.limits.count(limit);
        }
    }
}
