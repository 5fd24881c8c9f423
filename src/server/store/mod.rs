//! The server's side of the store: the engine, the appends and queries that it has not answered, and pages of history.
//! Nothing here knows what a connection is but its id.

mod pending;
mod history;
mod owner;
mod queries;

pub(super) use history::{Bounds, HistoryPage};
pub(super) use owner::Store;
pub(super) use pending::Pending;
