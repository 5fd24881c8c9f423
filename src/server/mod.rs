//! All state together: the connections, the turn, and the work on everything that arrives. Generic over its sockets
//! and its engine; it does no I/O but through them.

pub mod socket;
mod progress;
mod batch;
pub mod connections;
pub mod host;
pub mod metrics;
mod drain;
mod turn_time;
mod encoders;
mod response_context;
mod store;
mod owners;
mod session;
mod http;
mod room;
mod draining;
mod reading;
mod answers;
mod flushing;
mod deadlines;
mod invariants;
#[expect(clippy::module_inception, reason = "the folder is named after its main file")]
pub mod server;
