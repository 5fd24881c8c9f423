//! What a handler may know.

use crate::base::config::Config;
use crate::hub::registry::Registry;
use crate::server::response_context::{Content, ResponseContext};
use crate::server::turn_time::TurnTime;
use crate::store::engine::Health;
use crate::wire::http::decoder::{Method, Request};
use crate::wire::protocol::CorrelationId;

use super::origins::allowed_origin;

/// What a handler may know.
pub(in crate::server) struct Context<'a> {
    pub(in crate::server) config: &'a Config,
    pub(in crate::server) response: &'a ResponseContext,
    pub(in crate::server) hub: &'a Registry,
    pub(in crate::server) health: &'a Health,
    pub(in crate::server) is_draining: bool,
    pub(in crate::server) time: &'a mut TurnTime,
    /// Counts a message of this connection, and says whether it is within the limit of messages per second.
    pub(in crate::server) may_send: &'a mut dyn FnMut() -> bool,
}

impl ResponseContext {
    /// That of the response to a request. `made_up` is a correlation id for one that has none.
    pub(in crate::server) fn of(
        request: &Request<'_>,
        config: &Config,
        is_draining: bool,
        made_up: impl FnOnce() -> CorrelationId,
    ) -> Self {
        let given = request.header("x-correlation-id");
        let usable = given
            .filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .and_then(|id| CorrelationId::new(id.to_owned()));
        Self {
            content: Content::Answer,
            head_only: matches!(request.method, Method::Head),
            keep_alive: request.keep_alive && !is_draining,
            correlation_id: usable.unwrap_or_else(made_up),
            origin: allowed_origin(request, config).map(str::to_owned),
        }
    }
}
