//! What a run of the load generator does.

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Connections that are held.
    Idle,
    /// What is sent comes back.
    Echo,
    /// Subscribers who all get what publishers send.
    Fanout,
    /// POSTs, and their answers.
    Publish,
    /// Subscribers who all leave at once and resume.
    Storm,
}

impl Workload {
    /// The name on the command line.
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

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The `Host` field.
    pub host: String,
    /// Path and query.
    pub target: String,
}

/// How publishers publish.
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
    /// Where the connections go.
    pub endpoint: Endpoint,
    /// The channel that is published on by POST, as a JSON string.
    pub channel_json: String,
    /// Connections that are measured.
    pub connections: u32,
    /// Connections beside them that publish.
    pub publishers: u32,
    /// How those publish.
    pub publishing: Publishing,
    /// Messages or requests of one connection on their way at once.
    pub depth: u32,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// Messages a second of all publishers, sent whether or not the ones before have
    /// arrived.
    pub rate: Option<f64>,
    /// Messages after which nothing more is published.
    pub messages_max: Option<u64>,
    /// Connects a second.
    pub connect_rate: Option<f64>,
    /// Of the connections, how many read slowly.
    pub slow: u32,
    /// Connections beside them that say nothing after the handshake and read nothing.
    pub half_open: u32,
    /// Connections beside them that never finish their request.
    pub dribblers: u32,
    /// How often all leave and resume.
    pub rounds: u32,
    /// Whether an answer to a POST only has to have a status of 2xx.
    pub status_only: bool,
    /// Whether WebSockets must agree on compression, and payloads are such as can be compressed.
    pub compresses: bool,
    /// How long is sent before it counts.
    pub warm_up_us: u64,
    /// How long what is sent counts.
    pub run_us: u64,
    /// How long is waited for what does not come.
    pub patience_us: u64,
    /// The `Sec-WebSocket-Key` of all handshakes.
    pub key: String,
}

impl Plan {
    /// Where it is published.
    pub const fn publish_endpoint(&self) -> &Endpoint {
        match &self.publishing {
            Publishing::Message => &self.endpoint,
            Publishing::Post(endpoint) | Publishing::PostEvent(endpoint) | Publishing::PostRaw(endpoint) => {
                endpoint
            }
        }
    }

    /// What the ids of what is published begin with.
    pub const fn id_prefix(&self) -> &'static str {
        match &self.publishing {
            Publishing::PostEvent(_) => "event-",
            _ => "message-",
        }
    }

    /// Whether the connection at `index` is one that publishes beside those that are measured.
    pub const fn publishes(&self, index: u32) -> bool {
        index >= self.connections && index < self.connections + self.publishers
    }

    /// All connections of the run.
    pub const fn peers(&self) -> u32 {
        self.connections + self.publishers + self.half_open + self.dribblers
    }
}
