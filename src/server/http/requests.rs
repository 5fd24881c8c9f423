//! Requests as they arrive: what they ask is found out by the handlers, and done here.

use std::borrow::Cow;

use crate::base::limit::Limit;
use crate::server::connections::CloseReason;
use crate::server::owners::Owners;
use crate::server::progress::Progress;
use crate::server::session::upgrade;
use crate::server::socket::Socket;
use crate::wire::http::decoder::{BodyEnd, Request, RequestDecoder, RequestStep, Version, begins_head};
use crate::wire::http::gzip::Gzip;
use crate::wire::protocol::CorrelationId;

use super::context::Context;
use super::handler::handle;
use super::introspection::ask_inspection;
use super::list::{List, What};
use super::outcome::{Outcome, Reply};
use super::owner::Http;
use super::responses::{await_answer, refuse, reply, reply_continue, reply_static};
use crate::server::response_context::{Content, ResponseContext};

/// A body that is part of the binary and longer than this is not copied.
const COPIED_BYTES_MAX: usize = 256;

pub(in crate::server) fn decode_request<S: Socket>(
    owners: &mut Owners<S>,
    http: &mut Http,
    index: u32,
    decoder: &mut RequestDecoder,
    input: &mut [u8],
) -> Progress {
    if owners.connections.at(index).awaits_response() && !may_be_append(input) {
        owners.connections.await_response(index);
        return Progress::NeedMore;
    }
    let is_begun = !input.trim_ascii_start().is_empty();
    if is_begun && may_be_append(input) && !owners.may_publish(index) {
        return Progress::NeedMore;
    }
    match decoder.decode(input, &owners.config.limits) {
        Ok(RequestStep::NeedMore { send_continue }) => {
            if send_continue {
                reply_continue(owners, index);
            }
            Progress::NeedMore
        }
        Ok(RequestStep::Request { request, consumed }) => {
            owners.metrics.requests += 1;
            begin_request(owners, index);
            if route(owners, http, index, &request) {
                Progress::Upgraded(consumed)
            } else {
                Progress::Consumed(consumed)
            }
        }
        Err(refusal) => {
            owners.metrics.requests += 1;
            refuse(owners, index, &refusal, begins_head(input), CloseReason::HttpRefused);
            Progress::NeedMore
        }
    }
}

/// A request that is there whole sets the clock back for the next one.
fn begin_request<S: Socket>(owners: &mut Owners<S>, index: u32) {
    owners.connections.begin_request(index);
    if owners.connections.at(index).responses_awaited() >= owners.config.limits.pending_requests_max {
        owners.connections.await_response(index);
        owners.metrics.limits.count(Limit::PendingRequests);
    }
}

/// Answers a request, or has it answered. Returns whether the connection was upgraded to a WebSocket.
fn route<S: Socket>(owners: &mut Owners<S>, http: &mut Http, index: u32, request: &Request<'_>) -> bool {
    log::debug!("connection {index} requests {} {}", request.method.as_str(), request.path);
    let is_draining = owners.is_draining();
    let random = &mut owners.random;
    let made_up = || CorrelationId::made_up(random.u128(..));
    let mut response = ResponseContext::of(request, &owners.config, is_draining, made_up);
    let (connections, limits) = (&mut owners.connections, &owners.config.limits);
    let outcome = handle(
        request,
        &mut Context {
            config: &owners.config,
            response: &response,
            hub: &owners.hub,
            health: owners.store.health(),
            is_draining,
            time: &mut owners.time,
            may_send: &mut || connections.may_send(index, limits),
        },
    );
    match outcome {
        Outcome::Reply(reply) => send_reply(owners, index, response, reply),
        Outcome::Publish { record, key } => {
            let pending = await_answer(owners, index, response);
            owners.store.append(record, key, Some(pending));
        }
        Outcome::List { what, may_compress } => {
            if matches!(what, What::Records(_)) {
                response.content = Content::List;
            }
            let end = match request.version {
                Version::Http10 => BodyEnd::Close,
                Version::Http11 => BodyEnd::Chunked,
            };
            http.lists.add(owners, index, List::new(response, what, end, may_compress.then(Gzip::default)));
        }
        Outcome::Inspect(inspection) => {
            ask_inspection(owners, &mut http.inspections, index, response, inspection);
        }
        Outcome::Open(opening) => {
            upgrade(owners, index, request, &response, opening);
            return true;
        }
    }
    false
}

/// Sends a response that is there whole.
fn send_reply<S: Socket>(
    owners: &mut Owners<S>,
    index: u32,
    mut response: ResponseContext,
    whole: Reply<'_>,
) {
    whole.limits.iter().for_each(|limit| owners.metrics.limits.count(*limit));
    owners.metrics.foreign_origins += u64::from(whole.is_foreign);
    if whole.is_page {
        response.content = Content::Page;
    }
    let fields = whole.fields.iter().map(|(name, value)| (*name, &**value)).collect::<Vec<_>>();
    match whole.body {
        Cow::Borrowed(body) if body.len() > COPIED_BYTES_MAX => {
            reply_static(owners, index, &response, whole.status, body, &fields);
        }
        body => reply(owners, index, &response, whole.status, &body, &fields),
    }
}

/// Whether the request that begins here may be a POST. The answers to POSTs come in the order of the requests, so that
/// several may be waited for at once. All other requests are looked at only when the answers before them were sent.
fn may_be_append(input: &[u8]) -> bool {
    const POST: &[u8] = b"POST ";
    let start = input.trim_ascii_start();
    start[..start.len().min(POST.len())] == POST[..start.len().min(POST.len())]
}
