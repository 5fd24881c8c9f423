//! Every limit and every budget, with its default. A limit binds a peer and has
//! an answer in PROTOCOL.md; a budget bounds what one turn of the loop does,
//! and what is left over waits for the next turn.

use super::origin::AllowedOrigins;

/// The longest heartbeat interval, one day: [`super::time::Stamp`] must not wrap
/// within two.
pub const HEARTBEAT_INTERVAL_MS_MAX: u32 = 24 * 60 * 60 * 1000;

/// The most header fields that a request can be allowed, whatever
/// [`Limits::head_fields_max`] says: there is a place for each on the stack.
pub const HEAD_FIELDS_CAP: usize = 256;

/// How one server behaves towards its peers.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// What peers may ask for.
    pub limits: Limits,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// What one turn may do.
    pub budgets: Budgets,
    /// The browser pages that may connect beside our own.
    pub origins: AllowedOrigins,
    /// Whether the console is left out.
    pub no_console: bool,
    /// What is compressed.
    pub compression: Compression,
}

/// Which messages are compressed for clients that take compressed ones.
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    /// Bytes of payload above which a message is; 0 for none, and then no client is offered any.
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
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address (of IPv6, from one /64); 0 for no limit.
    pub connections_per_source_max: u32,
    /// Bytes of memory that the process has in use, at which nobody else is let in; 0 for no limit.
    pub resident_bytes_max: u64,
    /// Bytes of one WebSocket message, however fragmented.
    pub message_bytes_max: usize,
    /// Bytes of one request body.
    pub body_bytes_max: usize,
    /// Messages that one connection may send, or publish by POST, in a second; 0
    /// for no limit.
    pub messages_per_second_max: u32,
    /// Channels with subscribers at once.
    pub channels_max: usize,
    /// Bytes of a request line and header section.
    pub head_bytes_max: usize,
    /// Header fields of one request, and trailer fields too; never more than
    /// [`HEAD_FIELDS_CAP`].
    pub head_fields_max: usize,
    /// Bytes of a request target.
    pub target_bytes_max: usize,
    /// Bytes that a chunked body needn't have: extensions, leading zeros, trailers.
    pub chunk_extra_bytes_max: usize,
    /// Bytes of the name of a channel, after percent-decoding.
    pub channel_name_bytes_max: usize,
    /// Unsent private bytes at which a connection is not read any further.
    pub outbox_bytes_max: usize,
    /// Bytes of unfinished messages and requests of all connections together; the one
    /// that goes beyond is ended.
    pub inboxes_bytes_max: usize,
    /// Bytes that all connections together have yet to be sent, beside a few of each, at which who would
    /// add to that waits.
    pub outboxes_bytes_max: usize,
    /// Bytes of the frames that one channel keeps in memory.
    pub log_bytes_max: usize,
    /// Frames that one channel keeps in memory.
    pub log_frames_max: usize,
    /// Bytes of the frames that all channels together keep in memory.
    pub logs_bytes_max: usize,
    /// Appends of one connection that may wait for their answers, at which it is not
    /// read any further.
    pub pending_requests_max: u16,
    /// Bytes handed to the engine and not yet answered, at which publishers are
    /// not read any further.
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
            head_bytes_max: 16 << 10,
            head_fields_max: 64,
            target_bytes_max: 8 << 10,
            chunk_extra_bytes_max: 8 << 10,
            channel_name_bytes_max: 200,
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

/// How long is waited, in milliseconds.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u32,
    /// From the connect to the last byte of the first request, not refreshed by
    /// what dribbles in.
    pub handshake_ms: u32,
    /// From the first byte of a later request to its last, not refreshed either;
    /// and between two steps of sending a response.
    pub request_ms: u32,
    /// For the next request on a connection that is kept alive.
    pub keep_alive_ms: u32,
    /// For the peer's half of the close handshake.
    pub close_ms: u32,
    /// After the last use of a channel's frames in memory until they are let go.
    pub log_idle_ms: u32,
    /// For connections to finish after a shutdown was asked for.
    pub drain_ms: u32,
}

impl Timeouts {
    /// Silence of a peer at which a heartbeat asks it for a sign of life; without one it is
    /// given up at the next.
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

/// What one turn may do before it polls again.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Connections accepted.
    pub accepts: usize,
    /// Connections read.
    pub reads: usize,
    /// Bytes read from one connection.
    pub read_bytes_per_connection: usize,
    /// Bytes read from all connections.
    pub read_bytes: usize,
    /// Records taken in to be stored.
    pub appends: usize,
    /// Members of channels looked at by sweeps.
    pub sweep_members: usize,
    /// Members of one channel looked at before the next channel has its turn.
    pub sweep_members_per_channel: usize,
    /// Bytes offered to one connection's socket in one visit.
    pub write_bytes_per_connection: usize,
    /// Bytes written to all connections; the write that reaches it is still made.
    pub write_bytes: usize,
    /// Bytes compressed, or got by inflating; the message that reaches it is still worked on.
    pub coded_bytes: usize,
    /// Connections flushed outside of sweeps.
    pub flushes: usize,
    /// Deadlines expired.
    pub deadlines: usize,
    /// Records of one page of history.
    pub page_records: usize,
    /// Bytes of records at which a page of history ends.
    pub page_bytes: usize,
    /// Records counted for one subscriber that resumes; beyond that, there are more.
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
            page_records: 256,
            page_bytes: 128 << 10,
            count_records: 4096,
            engine_reads: 16,
        }
    }
}
