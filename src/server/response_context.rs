//! What a response has in common with its request.

use crate::wire::protocol::CorrelationId;

/// What a response holds, as far as its fields depend on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// How things are at this moment, or an error.
    Answer,
    /// The same, and it may be compressed.
    List,
    /// A file that is part of the binary.
    Page,
}

/// What of a request its response depends on.
#[derive(Debug, Clone)]
pub(super) struct ResponseContext {
    pub(super) content: Content,
    pub(super) head_only: bool,
    pub(super) keep_alive: bool,
    /// Repeated in the response, and in events that the request causes.
    pub(super) correlation_id: CorrelationId,
    /// The `Origin` of a browser's request, if its page may read the response.
    pub(super) origin: Option<String>,
}

impl ResponseContext {
    /// The header fields that every response to this request has; empty values are to be left out.
    pub(super) fn headers(&self) -> [(&str, &str); 7] {
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

impl ResponseContext {
    /// That of a connection on which nothing more is read, and whose request cannot be trusted.
    pub(super) const fn last(correlation_id: CorrelationId, head_only: bool) -> Self {
        Self { content: Content::Answer, head_only, keep_alive: false, correlation_id, origin: None }
    }
}
