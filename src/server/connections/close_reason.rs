//! Why connections end.

use crate::base::limit::Limit;

use super::connection::CloseKind;

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
    /// An HTTP response was over and the connection not to be kept.
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
    /// Text that is not UTF-8: Close 1007.
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
    /// All of them, in the order of their declaration.
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

    /// The limit that was reached, if the reason says which.
    pub(in crate::server) const fn limit(self) -> Option<Limit> {
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

    /// How a connection ends for this reason.
    #[must_use]
    pub const fn kind(self) -> CloseKind {
        match self {
            Self::ClientClose | Self::HttpDone | Self::KeepAliveTimeout | Self::Shutdown => CloseKind::Clean,
            _ => CloseKind::Abrupt,
        }
    }
}
