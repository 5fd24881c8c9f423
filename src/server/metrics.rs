//! What the server counts. Everything dropped, closed or refused has a reason here.

use crate::base::limit::{Limit, LimitHits};

use super::connection::Farewell;

/// Why a connection was ended; counted once for each, when that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer sent a Close frame.
    ClientClose,
    /// The peer ended the byte stream.
    EndOfStream,
    /// The operating system reported an error on the socket.
    SocketError,
    /// An HTTP exchange was over and the connection not to be kept.
    HttpDone,
    /// A request could not be understood or was over a limit.
    HttpRefused,
    /// A request did not arrive, or its response was not read, in time.
    RequestTimeout,
    /// The first request did not arrive in time.
    HandshakeTimeout,
    /// More connections, or more of one address, or more memory, than is allowed: 503.
    NotAdmitted,
    /// All connections together hold too much that is unfinished: Close 1013.
    Unfinished,
    /// All connections together hold too much that is unsent, and this one took nothing of its share: Close 1013.
    Unsent,
    /// More messages in a second than are allowed: Close 1008.
    MessageRate,
    /// No further request came in time.
    KeepAliveTimeout,
    /// The peer broke RFC 6455: Close 1002.
    ProtocolError,
    /// Text that is no UTF-8: Close 1007.
    InvalidUtf8,
    /// A message over the limit: Close 1009.
    MessageTooLong,
    /// The peer was silent for two and a half heartbeat intervals.
    HeartbeatTimeout,
    /// A `subscribe_token` of a wrong form: Close 4400.
    SubscribeToken,
    /// History that it asked for could not be read: Close 1013.
    StoreFailed,
    /// The server stops: Close 1001.
    Shutdown,
}

impl CloseReason {
    /// All of them, in the order of [`Metrics::closed`].
    pub const ALL: [Self; 19] = [
        Self::ClientClose,
        Self::EndOfStream,
        Self::SocketError,
        Self::HttpDone,
        Self::HttpRefused,
        Self::RequestTimeout,
        Self::HandshakeTimeout,
        Self::NotAdmitted,
        Self::Unfinished,
        Self::Unsent,
        Self::MessageRate,
        Self::KeepAliveTimeout,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::MessageTooLong,
        Self::HeartbeatTimeout,
        Self::SubscribeToken,
        Self::StoreFailed,
        Self::Shutdown,
    ];

    /// The name, as logs have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientClose => "client_close",
            Self::EndOfStream => "end_of_stream",
            Self::SocketError => "socket_error",
            Self::HttpDone => "http_done",
            Self::HttpRefused => "http_refused",
            Self::RequestTimeout => "request_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::NotAdmitted => "not_admitted",
            Self::Unfinished => "unfinished",
            Self::Unsent => "unsent",
            Self::MessageRate => "message_rate",
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooLong => "message_too_long",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::SubscribeToken => "subscribe_token",
            Self::StoreFailed => "store_failed",
            Self::Shutdown => "shutdown",
        }
    }

    /// The limit that was run into, where the reason says which.
    const fn limit(self) -> Option<Limit> {
        Some(match self {
            Self::RequestTimeout => Limit::RequestTime,
            Self::HandshakeTimeout => Limit::HandshakeTime,
            Self::KeepAliveTimeout => Limit::IdleTime,
            Self::HeartbeatTimeout => Limit::HeartbeatTime,
            Self::Unfinished => Limit::InboxBytes,
            Self::Unsent => Limit::UnsentBytes,
            Self::MessageRate => Limit::MessagesPerSecond,
            Self::MessageTooLong => Limit::MessageBytes,
            _ => return None,
        })
    }

    /// What a peer may still be doing whose connection ends for this.
    #[must_use]
    pub const fn farewell(self) -> Farewell {
        match self {
            Self::ClientClose | Self::HttpDone | Self::KeepAliveTimeout | Self::Shutdown => Farewell::Mutual,
            _ => Farewell::OneSided,
        }
    }
}

/// Bytes of the payloads of messages, and of lists, before and after compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CodedBytes {
    /// What was to be compressed: of a broadcast once, whoever gets it.
    pub deflate_in: u64,
    /// What that came to; the same where it would not have become less.
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
    /// What was refused, closed, let go or held up for a limit, by limit.
    pub limits: LimitHits,
    /// WebSocket handshakes refused because of their `Origin`.
    pub foreign_origins: u64,
    /// WebSocket messages received whole, control frames not counted.
    pub messages_received: u64,
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Bytes that sockets have taken.
    pub bytes_sent: u64,
    /// Messages of clients that were no message of the protocol.
    pub rubbish: u64,
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

    /// Every counter that is no [`CloseReason`] and no [`Limit`], with its name.
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
            ("invalid_messages", self.rubbish),
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
