//! What paths lead to.

/// What a path of a WebSocket leads to, the channel's name as it stands in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'b> {
    Events,
    Channel(&'b str),
    Echo,
}

/// What may be done with `path` where it is one of HTTP, as `Allow` lists it; `*` is the server.
pub(super) fn methods(path: &str) -> Option<&'static str> {
    Some(match path {
        "*" => "GET, HEAD, POST, OPTIONS",
        "/api/health" | "/api/channels" | "/api/summary" | "/api/connections" | "/api/schema"
        | "/metrics" => "GET, HEAD, OPTIONS",
        "/api/messages" | "/api/events" => "GET, HEAD, POST, OPTIONS",
        _ => return None,
    })
}

/// What `path` leads to, where it is one of a WebSocket.
pub(super) fn endpoint(path: &str) -> Option<Target<'_>> {
    match path {
        "/ws" => Some(Target::Events),
        "/api/ws" => Some(Target::Echo),
        _ => {
            let name = path.strip_prefix("/api/ws/")?;
            (!name.is_empty() && !name.contains('/')).then_some(Target::Channel(name))
        }
    }
}
