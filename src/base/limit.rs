//! The limits that a peer can reach. Every limit has a counter: it counts what is refused, closed, evicted or
//! delayed because of it.

/// Writes the limits and their names from one list.
macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal,)*) => {
        /// A limit, as PROTOCOL.md 13.3 and 13.4 list them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            /// Every limit, in the order of [`LimitHits`].
            pub const ALL: &[Self] = &[$(Self::$limit),*];

            /// The name, as metrics and logs have it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$limit => $name,)*
                }
            }
        }
    };
}

limits! {
    /// Connections at once: one was answered 503.
    Connections = "connections",
    /// Connections at once from one address: one was answered 503.
    ConnectionsPerAddress = "connections_per_address",
    /// Descriptors or memory of the system: a connection was answered 503.
    Descriptors = "descriptors",
    /// Memory that the process has in use: a connection was answered 503.
    Memory = "memory",
    /// Channels with subscribers: a handshake was answered 503.
    Channels = "channels",
    /// Channels of one connection to `/api/stream`: one was refused.
    ChannelsPerConnection = "channels_per_connection",
    /// Subscriptions of all connections to `/api/stream`: one was refused.
    Subscriptions = "subscriptions",
    /// A request to subscribe: it was refused.
    SubscribeBytes = "subscribe_bytes",
    /// Messages of one connection in a second: Close 1008, or 429.
    MessagesPerSecond = "messages_per_second",
    /// One WebSocket message: Close 1009.
    MessageBytes = "message_bytes",
    /// One request body: 413.
    BodyBytes = "body_bytes",
    /// What a chunked body could do without: 413, or 431 in its trailers.
    ChunkExtraBytes = "chunk_extra_bytes",
    /// Request line and header section: 431.
    HeaderBytes = "header_bytes",
    /// Fields of a header or trailer section: 431.
    HeaderFields = "header_fields",
    /// A request target: 414.
    TargetBytes = "target_bytes",
    /// The name of a channel or the type of an event: 400, or 422.
    ChannelNameBytes = "channel_name_bytes",
    /// A message's lane or provider, or the correlation id of an event: 422; of a WebSocket message, it was not taken.
    LabelBytes = "label_bytes",
    /// Unsent bytes of one connection: it was not read.
    OutboxBytes = "outbox_bytes",
    /// Unsent bytes of all connections: one was not read, or not sent history, or was closed for it.
    UnsentBytes = "unsent_bytes",
    /// Unfinished messages and requests of all connections: Close 1013, or 503.
    InboxBytes = "inbox_bytes",
    /// Frames of one channel in memory: the oldest was evicted.
    LogBytes = "log_bytes",
    /// Frames of all channels in memory: those that were unused the longest were evicted.
    LogsBytes = "logs_bytes",
    /// Published bytes that wait for the store: a publisher was not read.
    EngineBacklogBytes = "engine_backlog_bytes",
    /// POSTs of one connection that await their responses: it was not read.
    PendingRequests = "pending_requests",
    /// From a connect to the end of its first request.
    HandshakeTime = "handshake_time",
    /// From the beginning of a later request to its end, or for one step of its response.
    RequestTime = "request_time",
    /// Between two requests.
    IdleTime = "idle_time",
    /// For the peer's half of a closing handshake.
    CloseTime = "close_time",
    /// Two and a half heartbeat intervals of silence.
    HeartbeatTime = "heartbeat_time",
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitHits([u64; Limit::ALL.len()]);

impl LimitHits {
    pub const fn count(&mut self, limit: Limit) {
        self.0[limit as usize] += 1;
    }

    pub const fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// The limits that were reached at all.
    pub fn iter(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        Limit::ALL.iter().map(|limit| (*limit, self.of(*limit))).filter(|(_, count)| *count > 0)
    }
}
