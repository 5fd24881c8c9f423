//! The FIFOs of connections that wait for a time: one for each kind of time-out, since all of a kind wait equally long.

use crate::base::config::Timeouts;
use crate::base::deadline::Fifo;

use super::connection::Phase;

/// What a connection's time-out means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Deadline {
    Handshake,
    Request,
    KeepAlive,
    Heartbeat,
    Close,
}

impl Deadline {
    /// All of them, in the order in which a turn looks at them.
    pub(in crate::server) const ALL: [Self; 5] =
        [Self::Handshake, Self::Request, Self::KeepAlive, Self::Heartbeat, Self::Close];

    /// How long a connection waits, in milliseconds.
    pub(in crate::server) const fn wait_ms(self, timeouts: &Timeouts) -> u32 {
        match self {
            Self::Handshake => timeouts.handshake_ms,
            Self::Request => timeouts.request_ms,
            Self::KeepAlive => timeouts.keep_alive_ms,
            Self::Heartbeat => timeouts.heartbeat_interval_ms,
            Self::Close => timeouts.close_ms,
        }
    }

    /// The one of a connection in that phase.
    const fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Handshake => Some(Self::Handshake),
            Phase::Request => Some(Self::Request),
            Phase::KeepAlive => Some(Self::KeepAlive),
            Phase::Open(..) => Some(Self::Heartbeat),
            Phase::Closing | Phase::Ending(_) | Phase::Lingering(_) => Some(Self::Close),
            Phase::Dead => None,
        }
    }
}

/// The FIFOs; a connection is on the one that its phase names.
#[derive(Debug, Default)]
pub(super) struct Deadlines([Fifo; 5]);

impl Deadlines {
    pub(super) const fn fifo(&self, deadline: Deadline) -> Fifo {
        self.0[deadline as usize]
    }

    pub(super) const fn of(&mut self, phase: Phase) -> Option<&mut Fifo> {
        match Deadline::of(phase) {
            Some(deadline) => Some(&mut self.0[deadline as usize]),
            None => None,
        }
    }
}
