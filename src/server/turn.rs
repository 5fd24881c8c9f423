//! One turn of the loop, in its order. The order is the design:
//!
//! 1. Read and decode what is ready. Records that are published go to the engine; requests that concern only one
//!    connection are answered at once.
//! 2. Settle: the engine commits all that came in, in one transaction, and
//!    answers. Only now are clients told of a message.
//! 3. Flush: each connection is written once, whatever number of messages came.
//! 4. Expire deadlines: after reading, so that no connection is closed whose bytes were there.
//! 5. Drop the dead: last, so that no index changes its meaning within a turn.
//! 6. Rest: what the engine has to do for itself, now that nothing waits for an answer.
//!
//! Every step has a budget. What is left over stays marked, and the next poll
//! does not sleep.

use crate::store::engine::Health;
use crate::wire::protocol::{Sequence, write_envelope};

use super::http::response_context::health_payload;
use super::server::Server;
use super::socket::Socket;

/// Scratch space that is larger than this after its use is given back.
const SCRATCH_BYTES_KEPT: usize = 256 << 10;

impl<S: Socket> Server<S> {
    /// Does what is to be done, within the budgets. Comes after [`Server::wake`]
    /// and all that [`Server::accept`] and [`Server::ready`] had to tell.
    pub fn turn(&mut self) {
        self.metrics.turns += 1;
        self.store.begin_turn(self.config.budgets.appends);
        self.write_bytes_left = self.config.budgets.write_bytes;
        self.encoders.begin_turn(self.config.budgets.coded_bytes);
        self.read_all();
        if self.has_to_inspect() {
            self.inspect();
        }
        self.ask_for_lists();
        self.ask_for_history();
        self.settle();
        self.drain();
        self.notify();
        self.flush_all();
        self.expire();
        self.reap();
        self.offer_room();
        self.store.maintain(self.time.now);
    }

    fn settle(&mut self) {
        let mut answers = self.store.settle(self.time.now, self.config.budgets.engine_reads);
        if !answers.is_empty() {
            answers.drain(..).for_each(|answer| self.apply(answer));
        }
        self.store.end_settle(answers);
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        self.resume_stalled();
        self.watch_health();
    }

    /// Tells of the store's health when that has changed. It is an event, but not
    /// one that could be stored now: it has the id up to which its receiver has been
    /// sent everything.
    fn watch_health(&mut self) {
        match self.store.take_health_change() {
            None => return,
            Some(Health::Sound) => log::info!("the store works again"),
            Some(Health::Degraded(reason)) => log::error!("nothing can be stored now: {reason}"),
        }
        self.hub.notify_events();
    }

    fn notify(&mut self) {
        if !self.hub.has_notices() {
            return;
        }
        let payload = health_payload(self.store.health_told());
        let timestamp = self.time.timestamp();
        for _ in 0..self.config.budgets.sweep_members {
            let Some(index) = self.hub.next_notice() else { return };
            let place = (Sequence::Events, self.connections.at(index).cursor());
            self.write_text(index, |out| {
                write_envelope("health_status", &payload, None, &timestamp, place, out);
            });
            self.send_output(index);
        }
    }

    /// How long the next poll may sleep, in milliseconds; `None` is until
    /// something happens. Comes last in a turn.
    pub fn poll_timeout_ms(&mut self) -> Option<u64> {
        let engine = self.store.due_in_ms(self.time.now);
        let has_work = engine == Some(0) || self.has_work();
        let server = if has_work { Some(0) } else { self.next_deadline_ms() };
        let timeout = [server, engine].into_iter().flatten().min();
        self.clock.sleep(timeout);
        timeout
    }

    fn has_work(&self) -> bool {
        self.connections.has_queued()
            || self.store.has_pages()
            || self.has_to_inspect()
            || self.has_lists_to_ask_for()
            || self.store.has_history_due(self.config.budgets.engine_reads)
            || self.hub.has_sweeps()
            || self.hub.has_notices()
            || self.has_to_drain()
    }

    fn reap(&mut self) {
        self.connections.reap(&self.config.limits);
    }
}
