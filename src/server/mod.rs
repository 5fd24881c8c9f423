//! All state together: the connections, the turn, and the work on everything that arrives. Generic over its sockets
//! and its engine; it does no I/O but through them.

pub mod socket;
mod batch;
pub mod connections;
pub mod host;
pub mod metrics;
mod drain;
mod turn_time;
mod encoders;
mod http;
mod store;
#[expect(clippy::module_inception, reason = "the floor is named after its main room")]
pub mod server;
mod private;
mod history;
mod room;
mod turn;
mod reading;
mod messages;
mod upgrade;
mod introspection;
mod directory;
mod lists;
mod exposition;
mod requests;
mod answers;
mod flushing;
mod deadlines;
mod draining;
pub mod invariants;
