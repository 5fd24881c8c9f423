//! What a response has in common with its request.

use crate::store::engine::Health;
use crate::wire::protocol::{CorrelationId, write_json};

/// What a response holds, as far as its fields depend on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Content {
    /// How things are at this moment, or an error.
    Answer,
    /// The same, and it may be compressed.
    List,
    /// A file that is part of the binary.
    Page,
}

/// What of a request its response depends on.
#[derive(Debug, Clone)]
pub(in crate::server) struct ResponseContext {
    pub(in crate::server) content: Content,
    pub(in crate::server) head_only: bool,
    pub(in crate::server) keep_alive: bool,
    /// Repeated in the response, and in events that the request causes.
    pub(in crate::server) correlation_id: CorrelationId,
    /// The `Origin` of a browser's request, if its page may read the response.
    pub(in crate::server) origin: Option<String>,
}

impl ResponseContext {
    /// The header fields that every response to this request has; empty values are to be left out.
    pub(in crate::server) fn headers(&self) -> [(&str, &str); 7] {
        let origin = self.origin.as_deref().unwrap_or_default();
        let with_origin = |value| if origin.is_empty() { "" } else { value };
        [
            ("X-Correlation-ID", self.correlation_id.as_str()),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", with_origin("true")),
            (
                "Access-Control-Expose-Headers",
                with_origin("X-Correlation-ID, Idempotency-Window, Idempotency-Replayed, Link, Retry-After"),
            ),
            // Also if there is none: a cache must not show one page the answer to another.
            ("Vary", if self.content == Content::List { "Origin, Accept-Encoding" } else { "Origin" }),
            // A page is compared by its tag each time.
            ("Cache-Control", if self.content == Content::Page { "no-cache" } else { "no-store" }),
            ("X-Content-Type-Options", "nosniff"),
        ]
    }
}

/// How the store is, as `health` and `health_status` say it.
pub(in crate::server) fn health_payload(health: &Health) -> Vec<u8> {
    let mut payload = Vec::new();
    match health {
        Health::Sound => payload.extend_from_slice(b"{\"status\":\"ok\"}"),
        Health::Degraded(reason) => {
            payload.extend_from_slice(b"{\"status\":\"degraded\",\"reason\":");
            write_json(reason.as_str(), &mut payload);
            payload.push(b'}');
        }
    }
    payload
}

impl ResponseContext {
    /// That of a connection on which nothing more is read, and whose request cannot be trusted.
    pub(in crate::server) const fn last(correlation_id: CorrelationId, head_only: bool) -> Self {
        Self { content: Content::Answer, head_only, keep_alive: false, correlation_id, origin: None }
    }
}
