//! Questions about the server that wait for their answers. There is a reserve for one answer of each kind, so
//! that all of them are answered however much others leave unread; who asks the same waits meanwhile.

use std::collections::VecDeque;

use crate::base::id::Id;
use crate::store::engine::Ticket;
use crate::wire::body::{ChannelRange, ConnectionRange};

/// What is asked about the server itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inspection {
    /// `GET /api/health?verbose=1`
    Health,
    /// `GET /metrics`
    Metrics,
    /// `GET /api/connections`
    Connections(ConnectionRange),
    /// `GET /api/channels?detail=1`
    Channels(ChannelRange),
}

/// How many kinds there are.
const KINDS: usize = 4;

/// The one that the engine is asked about.
const CHANNELS: usize = KINDS - 1;

impl Inspection {
    const fn kind(&self) -> usize {
        match self {
            Self::Health => 0,
            Self::Metrics => 1,
            Self::Connections(_) => 2,
            Self::Channels(_) => CHANNELS,
        }
    }
}

/// The questions, by their kind.
#[derive(Debug, Default)]
pub(super) struct Inspections {
    waiting: [VecDeque<(Ticket, Inspection)>; KINDS],
    /// Who was answered last.
    answered: [Option<Id>; KINDS],
    /// The kind whose turn it is.
    turn: usize,
    len: usize,
    is_channels_asked: bool,
}

impl Inspections {
    /// Takes a question in.
    pub(super) fn push(&mut self, ticket: Ticket, inspection: Inspection) {
        self.len += 1;
        self.waiting[inspection.kind()].push_back((ticket, inspection));
    }

    /// Takes note of whether the engine is asked about channels: it is asked once at a time.
    pub(super) const fn note_channels_asked(&mut self, is_asked: bool) {
        self.is_channels_asked = is_asked;
    }

    /// Whether a question waits that may be answered, since `is_free` says of whoever was answered last with
    /// the same that its answer is out of the way.
    pub(super) fn has_next(&self, is_free: impl Fn(Id) -> bool) -> bool {
        self.len > 0 && (0..KINDS).any(|kind| self.may_answer(kind, &is_free))
    }

    /// The next such question: each kind has its turn.
    pub(super) fn next(&mut self, is_free: impl Fn(Id) -> bool) -> Option<(Ticket, Inspection)> {
        if self.len == 0 {
            return None;
        }
        let mut kinds = (0..KINDS).map(|more| (self.turn + more) % KINDS);
        let kind = kinds.find(|kind| self.may_answer(*kind, &is_free))?;
        self.turn = (kind + 1) % KINDS;
        let next = self.waiting[kind].pop_front();
        self.len -= 1;
        if self.waiting[kind].is_empty() {
            self.waiting[kind] = VecDeque::new();
        }
        next
    }

    /// Takes note of whom a question is answered.
    pub(super) const fn note(&mut self, inspection: &Inspection, connection: Id) {
        self.answered[inspection.kind()] = Some(connection);
    }

    fn may_answer(&self, kind: usize, is_free: &impl Fn(Id) -> bool) -> bool {
        !self.waiting[kind].is_empty()
            && self.answered[kind].is_none_or(is_free)
            && !(kind == CHANNELS && self.is_channels_asked)
    }

    /// How many ask.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody asks.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_answered_after_the_other_and_kinds_take_turns() {
        let mut inspections = Inspections::default();
        for number in 0..2 {
            inspections.push(Ticket(number), Inspection::Metrics);
            inspections.push(Ticket(10 + number), Inspection::Health);
        }
        let id = Id { index: 7, generation: 1 };
        let (first, what) =
            inspections.next(|_| false).unwrap_or_else(|| unreachable!("nobody was answered"));
        assert_eq!((first, &what), (Ticket(10), &Inspection::Health));
        inspections.note(&what, id);
        assert_eq!(inspections.next(|_| false), Some((Ticket(0), Inspection::Metrics)));
        // The first has not taken its answer; the other was gone.
        assert_eq!(inspections.next(|_| false), Some((Ticket(1), Inspection::Metrics)));
        assert!(!inspections.has_next(|_| false) && inspections.next(|_| false).is_none());
        assert!(!inspections.is_empty() && inspections.has_next(|one| one == id));
        assert_eq!(inspections.next(|one| one == id), Some((Ticket(11), Inspection::Health)));
        assert!(inspections.is_empty());
    }
}
