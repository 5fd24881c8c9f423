//! The one table of paths: a path that is not in it does not exist.

use super::pages::{StaticPage, page};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Health,
    Connections,
    Channels,
    Summary,
    Metrics,
    Schema,
    ListMessages,
    ListEvents,
    PostMessage,
    PostEvent,
}

/// What a WebSocket is opened for, the channel's name as it stands in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Target<'b> {
    Events,
    Channel(&'b str),
    Many,
    Echo,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Route<'b> {
    /// A WebSocket.
    WebSocket(Target<'b>),
    /// What GET and HEAD do, and what POST does.
    Http { get: Option<Action>, post: Option<Action> },
    /// A file that is part of the binary.
    Page(&'static StaticPage),
    /// The server as a whole (RFC 9110 section 9.3.7).
    Server,
    /// `/` without a console: a load balancer that is told nothing else asks for its options.
    Root,
}

struct Row {
    path: &'static str,
    get: Option<Action>,
    post: Option<Action>,
}

const fn get(path: &'static str, action: Action) -> Row {
    Row { path, get: Some(action), post: None }
}

const TABLE: [Row; 8] = [
    get("/api/health", Action::Health),
    get("/api/connections", Action::Connections),
    get("/api/channels", Action::Channels),
    get("/api/summary", Action::Summary),
    get("/metrics", Action::Metrics),
    get("/api/schema", Action::Schema),
    Row { path: "/api/messages", get: Some(Action::ListMessages), post: Some(Action::PostMessage) },
    Row { path: "/api/events", get: Some(Action::ListEvents), post: Some(Action::PostEvent) },
];

impl<'b> Route<'b> {
    /// What `path` leads to; `None` if it does not exist.
    pub(super) fn of(path: &'b str, has_console: bool) -> Option<Self> {
        if let Some(row) = TABLE.iter().find(|row| row.path == path) {
            return Some(Self::Http { get: row.get, post: row.post });
        }
        match path {
            "/ws" => return Some(Self::WebSocket(Target::Events)),
            "/api/stream" => return Some(Self::WebSocket(Target::Many)),
            "/api/ws" => return Some(Self::WebSocket(Target::Echo)),
            "*" => return Some(Self::Server),
            _ => {}
        }
        if let Some(name) = path.strip_prefix("/api/ws/") {
            let is_one = !name.is_empty() && !name.contains('/');
            return is_one.then_some(Self::WebSocket(Target::Channel(name)));
        }
        page(path, has_console).map(Self::Page).or_else(|| (path == "/").then_some(Self::Root))
    }

    /// What may be asked of it, as `Allow` lists it.
    pub(super) const fn allowed(&self) -> &'static str {
        match self {
            Self::Server | Self::Http { post: Some(_), .. } => "GET, HEAD, POST, OPTIONS",
            Self::Http { .. } | Self::Page(_) => "GET, HEAD, OPTIONS",
            Self::WebSocket(_) => "GET",
            Self::Root => "OPTIONS",
        }
    }
}
