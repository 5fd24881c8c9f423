//! A server that is killed and restarted under its clients, and what they know of it:
//! PROTOCOL.md, "8. Guarantees".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::support::PATIENCE;

/// The origin of a record: the name of the publisher, and its own number for it.
pub(crate) type Origin = (String, u64);

/// Shared by the test and all of its clients.
#[derive(Default)]
pub(crate) struct Site {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    addr: Option<SocketAddr>,
    /// The number of processes so far.
    generation: usize,
    is_up: bool,
    /// Nothing new may be published.
    is_closing: bool,
    /// Responses and messages that clients have received.
    seen: u64,
    /// How many of them each client has received from the current process.
    heard: BTreeMap<String, u64>,
    /// Everything that was acknowledged, by its id.
    messages: BTreeMap<u64, Origin>,
    events: BTreeMap<u64, Origin>,
}

/// The two sequences of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    Messages,
    Events,
}

impl Site {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no client has failed")
    }

    /// Waits until `is_reached`, and fails the test if that takes too long.
    fn wait(&self, what: &str, is_reached: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !is_reached(state));
        let (state, timeout) = waited.expect("no client has failed");
        assert!(!timeout.timed_out(), "{what}: not within {PATIENCE:?}");
        state
    }

    /// A process listens.
    pub(crate) fn open(&self, addr: SocketAddr) {
        let mut state = self.state();
        (state.addr, state.is_up) = (Some(addr), true);
        state.generation += 1;
        state.heard.clear();
        self.changed.notify_all();
    }

    /// The process is about to be killed.
    pub(crate) fn close(&self) {
        self.state().is_up = false;
    }

    /// Publishers must come to an end.
    pub(crate) fn wind_up(&self) {
        self.state().is_closing = true;
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    /// Waits until clients have received this many more responses and messages.
    pub(crate) fn wait_for(&self, count: u64) {
        let until = self.state().seen + count;
        drop(self.wait("answers and messages", |state| state.seen >= until));
    }

    /// Waits until this many clients have each received this many responses or messages from the current
    /// process.
    pub(crate) fn wait_for_each(&self, clients: usize, count: u64) {
        let have_all =
            |state: &State| state.heard.values().filter(|heard| **heard >= count).count() == clients;
        drop(self.wait("answers and messages for each", have_all));
    }

    /// The address of the process after `generation`, and its own generation.
    pub(crate) fn next(&self, generation: usize) -> (SocketAddr, usize) {
        let state = self.wait("the next process", |state| state.is_up && state.generation > generation);
        (state.addr.expect("it listens"), state.generation)
    }

    /// A connection has broken, for which there is only one reason.
    pub(crate) fn note_break(&self, generation: usize, what: &str) {
        let state = self.state();
        assert!(state.generation > generation || !state.is_up, "a running server has closed {what}");
    }

    /// A client has received something.
    pub(crate) fn note_seen(&self, name: &str) {
        self.state().note_seen(name);
        self.changed.notify_all();
    }

    /// A record is acknowledged with an id, which no other record may have.
    pub(crate) fn note_acknowledged(&self, sequence: Sequence, id: u64, name: &str, number: u64) {
        let origin = (name.to_owned(), number);
        let mut state = self.state();
        state.note_seen(name);
        let known = match sequence {
            Sequence::Messages => &mut state.messages,
            Sequence::Events => &mut state.events,
        };
        let earlier = known.insert(id, origin.clone());
        assert!(
            earlier.as_ref().is_none_or(|earlier| *earlier == origin),
            "{id}: {earlier:?} and {origin:?}"
        );
        self.changed.notify_all();
    }

    /// Everything that was acknowledged.
    pub(crate) fn acknowledged(&self, sequence: Sequence) -> BTreeMap<u64, Origin> {
        match sequence {
            Sequence::Messages => self.state().messages.clone(),
            Sequence::Events => self.state().events.clone(),
        }
    }
}

impl State {
    fn note_seen(&mut self, name: &str) {
        self.seen += 1;
        *self.heard.entry(name.to_owned()).or_default() += 1;
    }
}

impl Sequence {
    /// The target of its subscribers.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Messages => "/api/ws/room",
            Self::Events => "/ws",
        }
    }

    /// The id that means "everything".
    pub(crate) const fn zero(self) -> &'static str {
        match self {
            Self::Messages => "message-00000",
            Self::Events => "event-00000",
        }
    }
}

/// The number of an id such as `message-00017`.
pub(crate) fn number(event_id: &str) -> u64 {
    event_id.split_once('-').and_then(|(_, digits)| digits.parse().ok()).expect("an id")
}
