//! Every limit and every budget, with its default. A limit binds a peer, and PROTOCOL.md says what happens
//! beyond it. A budget bounds the work of one turn of the loop; the rest waits for the next turn.

use super::origin::AllowedOrigins;

/// The longest heartbeat interval, one day: [`super::time::Stamp`] must not wrap
/// within two.
pub const HEARTBEAT_INTERVAL_MS_MAX: u32 = 24 * 60 * 60 * 1000;

/// The most header fields that a request can have, whatever [`Limits::head_fields_max`] says: they are parsed
/// into a fixed array on the stack.
pub const HEAD_FIELDS_CAP: usize = 256;

#[derive(Debug, Clone, Default)]
pub struct Config {
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub budgets: Budgets,
    /// The browser pages that may connect, in addition to our own.
    pub origins: AllowedOrigins,
    pub no_console: bool,
    pub compression: Compression,
}

/// Which messages are compressed, for clients that accept compressed ones.
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    /// Payloads of more bytes are compressed. With 0 none is, and compression is not offered to clients.
    pub over: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { over: 256 }
    }
}

/// Bounds on what a peer may make the server hold.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections_max: usize,
    /// Connections at once from one address (IPv6: from one /64); 0 for no limit.
    pub connections_per_source_max: u32,
    /// Bytes of memory in use by the process, at which new connections are refused; 0 for no limit.
    pub resident_bytes_max: u64,
    /// Bytes of one WebSocket message, however fragmented.
    pub message_bytes_max: usize,
    pub body_bytes_max: usize,
    /// Messages that one connection may send, or publish by POST, in a second; 0
    /// for no limit.
    pub messages_per_second_max: u32,
    /// Channels with subscribers at once.
    pub channels_max: usize,
    /// Channels that one connection to `/api/stream` may subscribe to, events among them.
    pub channels_per_connection_max: usize,
    /// Subscriptions of all connections to `/api/stream`.
    pub subscriptions_max: usize,
    /// Bytes of one request to subscribe.
    pub subscribe_bytes_max: usize,
    /// Bytes of a request line and header section.
    pub head_bytes_max: usize,
    /// Header fields of one request, and trailer fields too; never more than
    /// [`HEAD_FIELDS_CAP`].
    pub head_fields_max: usize,
    pub target_bytes_max: usize,
    /// Bytes of a chunked body that it could do without: extensions, leading zeros, trailers.
    pub chunk_extra_bytes_max: usize,
    /// Bytes of the name of a channel, after percent-decoding.
    pub channel_name_bytes_max: usize,
    /// Bytes of a message's lane and of its provider, and of the correlation id in the body of an event.
    pub label_bytes_max: usize,
    /// Unsent private bytes at which a connection is no longer read.
    pub outbox_bytes_max: usize,
    /// Bytes of unfinished messages and requests of all connections together. The connection that exceeds it
    /// is closed.
    pub inboxes_bytes_max: usize,
    /// Unsent bytes of all connections together, not counting a few of each. At this bound, a connection that
    /// would add to it waits.
    pub outboxes_bytes_max: usize,
    /// Bytes of the frames that one channel keeps in memory.
    pub log_bytes_max: usize,
    /// Frames that one channel keeps in memory.
    pub log_frames_max: usize,
    /// Bytes of the frames that all channels together keep in memory.
    pub logs_bytes_max: usize,
    /// Appends of one connection that may await their answers. At this bound, it is no longer read.
    pub pending_requests_max: u16,
    /// Bytes handed to the engine and not yet answered. At this bound, publishers are no longer read.
    pub engine_backlog_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: usize::MAX,
            connections_per_source_max: 0,
            resident_bytes_max: 0,
            message_bytes_max: 1 << 20,
            body_bytes_max: 1 << 20,
            messages_per_second_max: 0,
            channels_max: usize::MAX,
            channels_per_connection_max: 1000,
            subscriptions_max: 1_000_000,
            subscribe_bytes_max: 256 << 10,
            head_bytes_max: 16 << 10,
            head_fields_max: 64,
            target_bytes_max: 8 << 10,
            chunk_extra_bytes_max: 8 << 10,
            channel_name_bytes_max: 200,
            label_bytes_max: 200,
            outbox_bytes_max: 64 << 10,
            inboxes_bytes_max: 64 << 20,
            outboxes_bytes_max: 64 << 20,
            log_bytes_max: 2 << 20,
            log_frames_max: 1024,
            logs_bytes_max: 16 << 20,
            pending_requests_max: 1024,
            engine_backlog_bytes_max: 8 << 20,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Timeouts {
    pub heartbeat_interval_ms: u32,
    /// From the connect to the last byte of the first request. Bytes that trickle in do not extend it.
    pub handshake_ms: u32,
    /// From the first byte of a later request to its last, without extension; and between two steps of
    /// sending a response.
    pub request_ms: u32,
    /// For the next request on a connection that is kept alive.
    pub keep_alive_ms: u32,
    /// For the peer's half of the close handshake.
    pub close_ms: u32,
    /// From the last use of a channel's frames in memory until they are released.
    pub log_idle_ms: u32,
    /// For connections to finish after a shutdown was requested.
    pub drain_ms: u32,
}

impl Timeouts {
    /// The silence after which a heartbeat asks a peer for a sign of life. Without one, the peer is closed at
    /// the next heartbeat.
    pub fn ping_after_ms(&self) -> u32 {
        self.heartbeat_interval_ms.saturating_add(self.heartbeat_interval_ms / 2)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 25_000,
            handshake_ms: 10_000,
            request_ms: 10_000,
            keep_alive_ms: 75_000,
            close_ms: 5_000,
            log_idle_ms: 30_000,
            drain_ms: 5_000,
        }
    }
}

/// How much one turn may do before it polls again.
#[derive(Debug, Clone)]
pub struct Budgets {
    pub accepts: usize,
    pub reads: usize,
    pub read_bytes_per_connection: usize,
    pub read_bytes: usize,
    pub appends: usize,
    pub sweep_members: usize,
    /// Members of one channel looked at before it is the next channel's turn.
    pub sweep_members_per_channel: usize,
    pub write_bytes_per_connection: usize,
    /// Bytes written to all connections. The write that reaches this budget is completed.
    pub write_bytes: usize,
    /// Bytes compressed or inflated. The message that reaches this budget is completed.
    pub coded_bytes: usize,
    /// Connections flushed outside of sweeps.
    pub flushes: usize,
    pub deadlines: usize,
    /// Channels that connections to `/api/stream` subscribe to, and as many that they leave when they end.
    pub subscribes: usize,
    /// Records of one page of history.
    pub page_records: usize,
    /// Bytes of records at which a page of history ends.
    pub page_bytes: usize,
    /// Records counted for one subscriber that resumes; if there are more, the count says so.
    pub count_records: u64,
    /// Pages and answers read from the store.
    pub engine_reads: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            accepts: 256,
            reads: 1024,
            read_bytes_per_connection: 256 << 10,
            read_bytes: 1 << 20,
            appends: 2048,
            sweep_members: 2048,
            sweep_members_per_channel: 512,
            write_bytes_per_connection: 512 << 10,
            write_bytes: 16 << 20,
            coded_bytes: 2 << 20,
            flushes: 1024,
            deadlines: 1024,
            subscribes: 2048,
            page_records: 256,
            page_bytes: 128 << 10,
            count_records: 4096,
            engine_reads: 16,
        }
    }
}
