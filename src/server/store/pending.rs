//! What waits for an answer of the engine.

use crate::base::id::Id;
use crate::hub::member::Subscriber;
use crate::server::response_context::ResponseContext;
use crate::wire::body::ChannelRange;
use crate::wire::v1::ClientId;

/// What waits for an answer of the engine, or for its turn to be asked about.
#[derive(Debug)]
pub(in crate::server) enum Pending {
    /// An HTTP client.
    Request { connection: Id, response: ResponseContext },
    /// An HTTP client that is being sent a list.
    List { connection: Id },
    /// An HTTP client that asked about channels.
    Channels { connection: Id, response: ResponseContext, range: ChannelRange },
    /// A subscriber that is told whether a message of its own is stored.
    Publish { connection: Id, id: Option<ClientId> },
    /// A subscriber that is told how many messages after `from` and up to `through` it missed, before it gets them.
    Resume { connection: Id, from: u64, through: u64 },
    /// Subscribers whose cursors are all at `after`, behind the log of their channel.
    Page { serial: u64, after: u64, waiters: Vec<Subscriber> },
}
