//! Questions about the server that wait for their answers.

use std::collections::VecDeque;

use crate::base::frame::Frame;
use crate::store::engine::QueryId;
use crate::wire::body::{ChannelRange, ConnectionRange};

/// What is asked about the server itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) enum Inspection {
    /// `GET /api/health?verbose=1`
    Health,
    /// `GET /metrics`
    Metrics,
    /// `GET /api/connections`
    Connections(ConnectionRange),
    /// `GET /api/channels?detail=1`
    Channels(ChannelRange),
}

/// The questions, in the order in which they are answered. Questions to the engine are a queue of their own: it is
/// asked one at a time, so that it has none of clients that have gone.
#[derive(Debug, Default)]
pub(in crate::server) struct Inspections {
    waiting: VecDeque<(QueryId, Inspection)>,
    channels_waiting: VecDeque<(QueryId, Inspection)>,
    is_channels_asked: bool,
    /// The metrics that were told last, and when, if there was no room for more of them.
    pub(super) last_metrics: Option<(u64, Frame)>,
}

impl Inspections {
    /// Takes a question in.
    pub(in crate::server) fn push(&mut self, query_id: QueryId, inspection: Inspection) {
        let queue = match inspection {
            Inspection::Channels(_) => &mut self.channels_waiting,
            _ => &mut self.waiting,
        };
        queue.push_back((query_id, inspection));
    }

    /// Takes note of whether the engine is asked about channels.
    pub(in crate::server) const fn note_channels_asked(&mut self, is_asked: bool) {
        self.is_channels_asked = is_asked;
    }

    /// Whether a question waits that can be answered.
    pub(in crate::server) fn has_next(&self) -> bool {
        !self.waiting.is_empty() || (!self.is_channels_asked && !self.channels_waiting.is_empty())
    }

    /// The next such question.
    pub(in crate::server) fn next(&mut self) -> Option<(QueryId, Inspection)> {
        let channels = if self.is_channels_asked { None } else { self.channels_waiting.pop_front() };
        channels.or_else(|| self.waiting.pop_front())
    }

    /// Whether there are no questions.
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.channels_waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_asked_once_at_a_time_and_keeps_nobody_waiting_who_asks_something_else() {
        let mut inspections = Inspections::default();
        let channels = || Inspection::Channels(ChannelRange { limit: 1, after: None });
        for number in 0..2 {
            inspections.push(QueryId(number), channels());
            inspections.push(QueryId(10 + number), Inspection::Health);
        }
        assert_eq!(inspections.next(), Some((QueryId(0), channels())));
        inspections.note_channels_asked(true);
        assert_eq!(inspections.next(), Some((QueryId(10), Inspection::Health)));
        assert_eq!(inspections.next(), Some((QueryId(11), Inspection::Health)));
        assert!(!inspections.has_next() && inspections.next().is_none() && !inspections.is_empty());
        inspections.note_channels_asked(false);
        assert!(inspections.has_next());
        assert_eq!(inspections.next(), Some((QueryId(1), channels())));
        assert!(inspections.is_empty());
    }
}
