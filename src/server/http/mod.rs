//! Requests: the table of paths, and a handler for each. A handler is a function of a request and what it may know to an
//! outcome; it touches no connection and no store.

pub(super) mod response_context;
pub(super) mod list;
pub(super) mod inspections;
mod outcome;
mod origins;
mod pages;
mod publish;
mod handshake;
mod table;
mod handler;

pub(super) use handler::{Context, handle, health_report};
pub(super) use handshake::Opening;
pub(super) use outcome::{JSON, Outcome, Reply, detail_body};
