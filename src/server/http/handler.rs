//! From a request to its outcome.

use super::inspections::Inspection;
use super::list::{NameSections, Records, What};
use crate::store::engine::{Health, Selection};
use crate::wire::body::{ChannelRange, ConnectionRange, ListRange};
use crate::wire::http::accept::accepts_gzip;
use crate::wire::http::decoder::{Method, Request, Status};
use crate::wire::protocol::Sequence;

use crate::server::session::health_payload;

use super::context::Context;
use super::handshake::open;
use super::origins::{is_preflight, preflight};
use super::outcome::{JSON, Outcome, Reply};
use super::pages::get_page;
use super::publish::{Posted, publish};
use super::table::{Action, Route};

/// The interface of this server as OpenAPI describes it, with the messages of its WebSockets.
const SCHEMA: &str = include_str!("../schema.json");

/// What a request comes to.
pub(in crate::server) fn handle<'b>(request: &Request<'b>, context: &mut Context<'_>) -> Outcome<'b> {
    act(request, context).unwrap_or_else(Outcome::Reply)
}

fn act<'b>(request: &Request<'b>, context: &mut Context<'_>) -> Result<Outcome<'b>, Reply<'b>> {
    if matches!(request.method, Method::Other(_)) {
        return Err(Reply::detail(Status::NOT_IMPLEMENTED, "Not Implemented"));
    }
    let not_found = || Reply::detail(Status::NOT_FOUND, "Not Found");
    let route = Route::of(request.path, !context.config.no_console).ok_or_else(not_found)?;
    if let Route::WebSocket(target) = route {
        return open(request, context, target);
    }
    match (&request.method, &route) {
        (Method::Options, _) if is_preflight(request) => Ok(preflight(request, context.response).into()),
        (Method::Options, _) => Ok(Reply::new(Status::OK, &b""[..]).with("Allow", route.allowed()).into()),
        (Method::Get | Method::Head, Route::Page(page)) => Ok(get_page(request, page).into()),
        (Method::Get | Method::Head, Route::Http { get: Some(action), .. })
        | (Method::Post, Route::Http { post: Some(action), .. }) => perform(*action, request, context),
        (_, Route::Root) => Err(not_found()),
        _ => {
            let reply = Reply::detail(Status::METHOD_NOT_ALLOWED, "Method Not Allowed");
            Err(reply.with("Allow", route.allowed()))
        }
    }
}

fn perform<'b>(
    action: Action,
    request: &Request<'b>,
    context: &mut Context<'_>,
) -> Result<Outcome<'b>, Reply<'b>> {
    Ok(match action {
        Action::Health if is_set(request, "verbose") => Outcome::Inspect(Inspection::Health),
        Action::Health => {
            let (status, body) = health_report(context.health, context.is_draining);
            Reply::new(status, body).into()
        }
        Action::Connections => {
            let range = ConnectionRange::parse(|name| request.query_value(name));
            Outcome::Inspect(Inspection::Connections(range.map_err(|errors| Reply::errors(&errors))?))
        }
        Action::Channels if is_set(request, "detail") => {
            let range = ChannelRange::parse(|name| request.query_value(name));
            Outcome::Inspect(Inspection::Channels(range.map_err(|errors| Reply::errors(&errors))?))
        }
        Action::Channels => names(NameSections::channels()),
        Action::Summary => names(NameSections::summary()),
        Action::Metrics => Outcome::Inspect(Inspection::Metrics),
        Action::Schema => Reply::new(Status::OK, SCHEMA.as_bytes()).with("Content-Type", JSON).into(),
        Action::ListMessages => {
            let of = Selection::Messages(given(request, "channel_id"));
            records(request, context, Sequence::Messages, of)?
        }
        Action::ListEvents => {
            records(request, context, Sequence::Events, Selection::Events(given(request, "type")))?
        }
        Action::PostMessage => publish(request, context, Posted::Message)?,
        Action::PostEvent => publish(request, context, Posted::Event)?,
    })
}

fn names<'b>(names: NameSections) -> Outcome<'b> {
    Outcome::List { what: What::Names(names), may_compress: false }
}

fn records<'b>(
    request: &Request<'b>,
    context: &Context<'_>,
    sequence: Sequence,
    of: Selection,
) -> Result<Outcome<'b>, Reply<'b>> {
    let range = ListRange::parse(sequence, |name| request.query_value(name));
    let range = range.map_err(|errors| Reply::errors(&errors))?;
    let may_compress = context.config.compression.over > 0 && accepts_gzip(request);
    Ok(Outcome::List { what: What::Records(Records { of, range, span: None, read: 0 }), may_compress })
}

/// A value of the query that is not empty.
fn given<T: for<'a> From<&'a str>>(request: &Request<'_>, name: &str) -> Option<T> {
    request.query_value(name).filter(|value| !value.is_empty()).map(|value| T::from(value.as_ref()))
}

/// Whether the query has `name=1`.
fn is_set(request: &Request<'_>, name: &str) -> bool {
    request.query_value(name).is_some_and(|value| value == "1")
}

/// 200 if everything is well, else 503 and why.
pub(in crate::server) fn health_report(health: &Health, is_draining: bool) -> (Status, Vec<u8>) {
    match health {
        _ if is_draining => (Status::SERVICE_UNAVAILABLE, b"{\"status\":\"draining\"}".to_vec()),
        Health::Sound => (Status::OK, b"{\"status\":\"ok\"}".to_vec()),
        health => (Status::SERVICE_UNAVAILABLE, health_payload(health)),
    }
}
