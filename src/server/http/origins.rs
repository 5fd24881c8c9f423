//! Which pages of browsers may talk to us, and what they are told of that.

use crate::base::config::Config;
use crate::wire::http::decoder::{Request, Status};

use super::outcome::Reply;
use crate::server::response_context::ResponseContext;

/// The `Origin` that the request names, if that page may talk to us.
pub(super) fn allowed_origin<'b>(request: &Request<'b>, config: &Config) -> Option<&'b str> {
    let origin = request.header("origin").filter(|_| request.header_values("origin").count() == 1)?;
    config.origins.allow(origin, request.host).then_some(origin)
}

/// The refusal, if a browser sent this for a page that may not talk to us.
pub(super) fn refuse_foreign<'b>(request: &Request<'_>, response: &ResponseContext) -> Result<(), Reply<'b>> {
    if response.origin.is_none() && request.header_values("origin").next().is_some() {
        return Err(Reply { is_foreign: true, ..foreign() });
    }
    Ok(())
}

fn foreign<'b>() -> Reply<'b> {
    Reply::detail(Status::FORBIDDEN, "pages of this origin may not connect; see --allow-origin")
}

/// The answer to a browser that asks whether its page may ask.
pub(super) fn preflight<'b>(request: &Request<'b>, response: &ResponseContext) -> Reply<'b> {
    if response.origin.is_none() {
        return foreign();
    }
    let reply = Reply::new(Status::OK, &b"OK"[..])
        .with("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
        .with("Access-Control-Max-Age", "600")
        .with("Content-Type", "text/plain; charset=utf-8");
    match request.header("access-control-request-headers").unwrap_or_default() {
        "" => reply,
        asked => reply.with("Access-Control-Allow-Headers", asked),
    }
}

/// Whether a browser asks whether its page may ask.
pub(super) fn is_preflight(request: &Request<'_>) -> bool {
    request.header("origin").is_some() && request.header("access-control-request-method").is_some()
}
