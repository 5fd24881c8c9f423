//! The members of channels. A connection with one channel is a member itself. Of a connection that may have many, each
//! subscription is a member.

use crate::base::id::Id;

/// A member of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A connection, by its index.
    Connection(u32),
    /// A subscription of a connection that may have many, by its key.
    Subscription(u32),
}

/// The bit that tells the two apart. Connections are counted in 31 bits, and so are subscriptions.
const IS_SUBSCRIPTION: u32 = 1 << 31;

impl Member {
    #[inline]
    pub(super) const fn pack(self) -> u32 {
        match self {
            Self::Connection(index) => index,
            Self::Subscription(key) => key | IS_SUBSCRIPTION,
        }
    }

    #[inline]
    pub(super) const fn unpack(packed: u32) -> Self {
        if packed & IS_SUBSCRIPTION == 0 {
            Self::Connection(packed)
        } else {
            Self::Subscription(packed & !IS_SUBSCRIPTION)
        }
    }
}

/// A member, and the connection that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber {
    pub connection: Id,
    pub member: Member,
}

impl Subscriber {
    /// A connection that is a member itself.
    pub const fn of(connection: Id) -> Self {
        Self { connection, member: Member::Connection(connection.index) }
    }
}

/// How far the replay of a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Messages that were missed are being sent.
    Running,
    /// All that was missed was sent, and its client told so if it speaks `polecat.v1`.
    Done,
}
