//! Requests: the table of paths, and a handler for each. A handler is a function of a request and what it may know to an
//! outcome; it touches no connection and no store. The outcome is done by functions of the owners.

mod list;
mod inspections;
mod outcome;
mod origins;
mod context;
mod pages;
mod table;
mod publish;
mod handshake;
mod handler;
mod responses;
mod lists;
mod counts;
mod exposition;
mod directory;
mod introspection;
mod owner;
mod requests;

pub(super) use directory::send_channels;
#[cfg(test)]
pub(super) use introspection::PLACES_MAX;
pub(super) use introspection::inspect;
pub(super) use lists::Lists;
pub(super) use outcome::detail_body;
pub(super) use owner::Http;
pub(super) use requests::decode_request;
#[cfg(test)]
pub(super) use responses::PAGE_BYTES_MAX;
pub(super) use responses::{answer, refuse, reject, settle_request};
