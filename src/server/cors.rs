//! Which pages of browsers may talk to us, and what they are told of that.

use crate::wire::http::decoder::{Request, Status};

use super::exchange::{Exchange, FOREIGN_ORIGIN};
use super::server::Server;
use super::socket::Socket;

/// The longest `Origin` that is looked at: a host has 253 bytes at most.
const ORIGIN_BYTES_MAX: usize = 512;

impl<S: Socket> Server<S> {
    /// The `Origin` that the request names, if that page may talk to us.
    pub(super) fn allowed_origin<'b>(&self, request: &Request<'b>) -> Option<&'b str> {
        let origin = request.header("origin").filter(|_| request.header_values("origin").count() == 1)?;
        let is_allowed = origin.len() <= ORIGIN_BYTES_MAX && self.config.origins.allow(origin, request.host);
        is_allowed.then_some(origin)
    }

    /// Whether a browser sent this for a page that may not talk to us.
    pub(super) fn is_foreign(&mut self, request: &Request<'_>, exchange: &Exchange) -> bool {
        let is_foreign = exchange.origin.is_none() && request.header_values("origin").next().is_some();
        self.metrics.foreign_origins += u64::from(is_foreign);
        is_foreign
    }

    pub(super) fn preflight(&mut self, index: u32, request: &Request<'_>, exchange: &Exchange) {
        if exchange.origin.is_none() {
            return self.reply_detail(index, exchange, Status::FORBIDDEN, FOREIGN_ORIGIN, &[]);
        }
        let asked = request.header("access-control-request-headers").unwrap_or_default();
        let mut extra = vec![
            ("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            ("Access-Control-Max-Age", "600"),
            ("Content-Type", "text/plain; charset=utf-8"),
        ];
        if !asked.is_empty() {
            extra.push(("Access-Control-Allow-Headers", asked));
        }
        self.reply(index, exchange, Status::OK, b"OK", &extra);
    }
}

/// Whether a browser asks whether its page may ask.
pub(super) fn is_preflight(request: &Request<'_>) -> bool {
    request.header("origin").is_some() && request.header("access-control-request-method").is_some()
}
