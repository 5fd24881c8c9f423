//! How long a connection may last, calculated from its traffic (PROTOCOL 9.3, 11.6, 11.7, 13.4). All times
//! are by the clock that does not count stalls.

use polecat::base::config::Timeouts;

use crate::pipe::{Wire, Work};

/// The peer's actions, and their times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    accepted_ms: u64,
    /// The last sign of life: something was read, or there was new room.
    heard_ms: u64,
    /// The first read since the server last wrote.
    asked_ms: Option<u64>,
    written_ms: Option<u64>,
    /// When the server ended its half.
    ended_ms: Option<u64>,
    /// When the server last had something to do itself.
    excused_ms: u64,
}

impl Lifetime {
    pub(crate) const fn new(now_ms: u64) -> Self {
        Self {
            accepted_ms: now_ms,
            heard_ms: now_ms,
            asked_ms: None,
            written_ms: None,
            ended_ms: None,
            excused_ms: now_ms,
        }
    }

    /// There is room again, or the socket claims so.
    pub(crate) const fn hear(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Records the work of a turn.
    pub(crate) const fn note(&mut self, work: Work, now_ms: u64) {
        if work.read_bytes > 0 {
            self.heard_ms = now_ms;
        }
        if work.write_bytes > 0 {
            self.written_ms = Some(now_ms);
            self.asked_ms = None;
        } else if work.read_bytes > 0 && self.asked_ms.is_none() {
            self.asked_ms = Some(now_ms);
        }
    }

    /// Checks that the connection may still be open.
    pub(crate) fn check(
        &mut self,
        wire: &Wire,
        timeouts: &Timeouts,
        is_excused: bool,
        now_ms: u64,
        slack_ms: u64,
    ) {
        if wire.has_server_ended() && self.ended_ms.is_none() {
            self.ended_ms = Some(now_ms);
        }
        // If the server could read bytes, their waiting is its own fault.
        if is_excused || (wire.has_unread() && !wire.is_full()) {
            self.excused_ms = now_ms;
        }
        let (what, since_ms, wait_ms) = self.patience(wire, timeouts);
        let waited_ms = now_ms - since_ms.max(self.excused_ms);
        assert!(
            waited_ms <= u64::from(wait_ms) + slack_ms,
            "a connection outlives its deadline: {what} is over for {waited_ms} ms"
        );
    }

    /// The current time-out: its name, since when it runs, and its length.
    fn patience(&self, wire: &Wire, timeouts: &Timeouts) -> (&'static str, u64, u32) {
        // The client gets a Ping before two and a half intervals have passed, and is closed one interval
        // later.
        let silence_ms = timeouts.heartbeat_interval_ms * 7 / 2;
        let written_ms = self.written_ms.unwrap_or(self.accepted_ms);
        if let Some(ended_ms) = self.ended_ms {
            return ("the end", ended_ms.max(written_ms), timeouts.close_ms);
        }
        if wire.outflow.is_closing() {
            return ("the Close", written_ms, timeouts.close_ms);
        }
        if wire.is_full() {
            // The unsent bytes may be a Close, or the response to a handshake.
            let longest_ms = silence_ms.max(timeouts.close_ms).max(timeouts.request_ms);
            let is_open = wire.outflow.is_websocket();
            let since_ms = if is_open { written_ms.max(self.heard_ms) } else { written_ms };
            return ("room", since_ms, longest_ms);
        }
        if wire.outflow.is_websocket() {
            return ("a sign of life", self.heard_ms, silence_ms);
        }
        match (self.written_ms, self.asked_ms) {
            (None, _) => ("the first request", self.accepted_ms, timeouts.handshake_ms),
            (Some(_), Some(asked_ms)) => ("the rest of a request", asked_ms, timeouts.request_ms),
            // Bytes behind the request before may be the beginning of the next.
            (Some(written_ms), None) => {
                ("the next request", written_ms, timeouts.keep_alive_ms.max(timeouts.request_ms))
            }
        }
    }
}
