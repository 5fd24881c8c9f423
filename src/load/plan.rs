//! What a run of the load generator does.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Connections that are held open.
    Idle,
    /// Messages that the server sends back.
    Echo,
    /// Subscribers that all receive what publishers send.
    Fanout,
    /// POSTs, and their responses.
    Publish,
    /// Subscribers that all leave at once and resume.
    Storm,
}

impl Workload {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Echo => "echo",
            Self::Fanout => "fanout",
            Self::Publish => "publish",
            Self::Storm => "storm",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    /// Path and query.
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publishing {
    /// As subscribers, by a message on their WebSocket.
    Message,
    /// By POST of `{"channel_id","author","content"}`.
    Post(Endpoint),
    /// By POST of `{"type","payload":{"content"}}`: an event.
    PostEvent(Endpoint),
    /// By POST of the payload alone.
    PostRaw(Endpoint),
}

/// One run. Times are in microseconds.
#[derive(Debug, Clone)]
pub struct Plan {
    pub workload: Workload,
    pub endpoint: Endpoint,
    /// The channel of published POSTs, as a JSON string.
    pub channel_json: String,
    /// Connections that are measured.
    pub connections: u32,
    /// Additional connections that publish.
    pub publishers: u32,
    pub publishing: Publishing,
    /// Messages or requests of one connection in flight at once.
    pub depth: u32,
    pub payload_bytes: usize,
    /// Messages per second of all publishers, sent whether or not the earlier ones have arrived.
    pub rate: Option<f64>,
    /// Messages after which nothing more is published.
    pub messages_max: Option<u64>,
    pub connect_rate: Option<f64>,
    /// How many of the connections read slowly.
    pub slow: u32,
    /// Additional connections that send and read nothing after the handshake.
    pub half_open: u32,
    /// Additional connections that never finish their request.
    pub dribblers: u32,
    /// How often all subscribers leave and resume.
    pub rounds: u32,
    /// Whether a response to a POST only has to have a 2xx status.
    pub status_only: bool,
    /// Whether WebSockets must negotiate compression; then payloads are compressible.
    pub compresses: bool,
    /// How long to send before messages count.
    pub warm_up_us: u64,
    /// How long sent messages count.
    pub run_us: u64,
    /// How long to wait for what has not arrived.
    pub patience_us: u64,
    /// The `Sec-WebSocket-Key` of all handshakes.
    pub key: String,
}

impl Plan {
    pub const fn publish_endpoint(&self) -> &Endpoint {
        match &self.publishing {
            Publishing::Message => &self.endpoint,
            Publishing::Post(endpoint) | Publishing::PostEvent(endpoint) | Publishing::PostRaw(endpoint) => {
                endpoint
            }
        }
    }

    pub const fn id_prefix(&self) -> &'static str {
        match &self.publishing {
            Publishing::PostEvent(_) => "event-",
            _ => "message-",
        }
    }

    /// Whether the connection at `index` is an additional one that publishes.
    pub const fn publishes(&self, index: u32) -> bool {
        index >= self.connections && index < self.connections + self.publishers
    }

    pub const fn peers(&self) -> u32 {
        self.connections + self.publishers + self.half_open + self.dribblers
    }
}
