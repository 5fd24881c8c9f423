//! All connections: the slab that they are in, their queues, deadlines and output, what they hold together, and who is
//! let in. Every change of a connection's state is made in `transitions`, which alone keeps the counts that
//! follow from it. Nothing here knows a path of HTTP, the name of a channel, or the store.

mod connection;
mod close_reason;
mod accept_times;
mod recent_closes;
mod admission;
mod deadlines;
mod unsent;
mod owner;
mod transitions;
mod output;
mod room;
mod checks;

pub use admission::Source;
pub(super) use checks::expect_once;
pub use close_reason::CloseReason;
pub use connection::{
    CloseKind, Connection, ConnectionKind, Decoder, Phase, Protocol, ReadState, WriteState,
};
pub(super) use deadlines::Deadline;
pub(super) use output::{GATHER_MAX, Sent, Written};
pub(super) use owner::{Connections, Counts};
pub(super) use room::Eviction;
pub(super) use unsent::OWN_BYTES;
