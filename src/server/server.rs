//! The server: all connections, all channels, one engine. The shell tells it of new sockets, of readiness and of the
//! time, and calls [`Server::turn`].

use crate::base::config::Config;
use crate::base::limit::Limit;
use crate::base::time::Now;
use crate::store::engine::Engine;

use super::connections::Source;
use super::host::{Host, LoopTiming, LoopTimings, Process};
use super::http::{Http, inspect, reject};
use super::invariants::{self, Holdings};
use super::metrics::Metrics;
use super::owners::Owners;
use super::reading::{READ_BUFFER_BYTES, read_all};
use super::room::offer_room;
use super::session::{Flusher, ask_for_history, notify, subscribe_due, watch_health};
use super::socket::{Readiness, Socket};
use super::{answers, deadlines, draining, flushing};

/// A server over sockets `S`.
pub struct Server<S> {
    owners: Owners<S>,
    http: Http,
    flusher: Flusher,
    process: Process,
    read_buffer: Vec<u8>,
}

impl<S: Socket> Server<S> {
    /// A server without connections. `seed` is what the UUIDs that it makes up
    /// depend on; it should be random.
    pub fn new(config: Config, engine: Box<dyn Engine>, seed: u64, now: Now) -> Self {
        Self {
            owners: Owners::new(config, engine, seed, now),
            http: Http::default(),
            flusher: Flusher::default(),
            process: Process {
                host: Box::new(()),
                timings: LoopTimings::default(),
                started_ms: now.monotonic_ms,
            },
            read_buffer: vec![0; READ_BUFFER_BYTES],
        }
    }

    /// The same server in a process that can be asked about.
    #[must_use]
    pub fn with_host(mut self, host: Box<dyn Host>) -> Self {
        self.process.host = host;
        self
    }

    /// Tells that the poll has returned and what time it is. Comes before
    /// everything else that belongs to a turn.
    pub fn wake(&mut self, now: Now) {
        let owners = &mut self.owners;
        owners.metrics.stalled_ms += owners.clock.advance(now);
        owners.time.advance(now, owners.clock.stamp());
        owners.connections.begin_turn(owners.time.stamp);
    }

    /// Tells when the poll begins: the time of a turn is not part of the sleep. A shell whose turns take no time need not
    /// tell.
    pub fn end_turn(&mut self, now: Now) {
        self.owners.metrics.stalled_ms += self.owners.clock.end_turn(now);
    }

    /// Tells that the process was stopped in the poll. Comes before [`Server::wake`].
    pub const fn note_stop(&mut self) {
        self.owners.clock.note_stop();
    }

    /// The index that the next accepted connection will have.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        self.owners.connections.next_index()
    }

    /// Takes a new connection in and returns its index, by which the shell names
    /// it in [`Server::ready`] until the turn ends in which it is dropped. If
    /// there are too many, it is told so and ended.
    pub fn accept(&mut self, socket: S, source: Source) -> u32 {
        let owners = &mut self.owners;
        owners.metrics.accepted += 1;
        let (limits, now_ms) = (&owners.config.limits, owners.clock.ms());
        let (index, limit) = owners.connections.accept(socket, source, limits, now_ms);
        if let Some(limit) = limit {
            owners.metrics.limits.count(limit);
            reject(owners, index, limit);
        }
        index
    }

    /// Tells how many bytes of memory the process has in use, if that has a limit.
    pub fn note_resident(&mut self, bytes: u64) {
        let limits = &self.owners.config.limits;
        let bytes_max = limits.resident_bytes_max;
        match self.owners.connections.note_resident(bytes, limits) {
            Some(true) => {
                log::info!("new connections are accepted again: {bytes} bytes of memory are in use");
            }
            Some(false) => {
                log::warn!("new connections are refused: {bytes} of {bytes_max} bytes of memory are in use");
            }
            None => {}
        }
    }

    /// Counts a connection that the shell has refused for lack of descriptors.
    pub const fn count_turned_away(&mut self) {
        self.owners.metrics.limits.count(Limit::Descriptors);
    }

    /// Counts a connection that was lost before it could be accepted.
    pub const fn count_lost(&mut self) {
        self.owners.metrics.lost += 1;
    }

    /// Tells what has changed about the socket at `index`. Only marks it; the work
    /// is done in the turn.
    pub fn ready(&mut self, index: u32, readiness: Readiness) {
        self.owners.connections.ready(index, readiness);
    }

    /// Tells of the time round the loop that ends with this wake.
    pub fn note_timing(&mut self, timing: LoopTiming) {
        self.process.timings.note(timing, self.owners.clock.ms());
    }

    /// Does what is to be done. Comes after [`Server::wake`] and all that [`Server::accept`] and [`Server::ready`] had
    /// to tell. Every step has a budget. What is left over stays marked, and the next poll does not sleep.
    ///
    /// The order is the design:
    ///
    /// 1. Read and decode what is ready. Records that are published go to the engine; requests that concern only one
    ///    connection are answered at once, and so is what is asked about the server itself.
    /// 2. Settle: the engine commits all that came in, in one transaction, and answers. Only now are clients told of a
    ///    message.
    /// 3. Drain, if the server stops: some connections are told to go.
    /// 4. Flush: each connection is written once, whatever number of messages came.
    /// 5. Expire deadlines: after reading, so that no connection is closed whose bytes were there.
    /// 6. Reap the dead: after all that names a connection by its index.
    /// 7. Maintain: what the engine has to do for itself, now that nothing waits for an answer.
    pub fn turn(&mut self) {
        let Self { owners, http, flusher, process, read_buffer } = self;
        owners.begin_turn();
        flusher.begin_turn(owners.config.budgets.write_bytes);
        read_all(owners, http, read_buffer);
        if http.inspections.has_next() {
            inspect(owners, &mut http.inspections, process);
        }
        http.lists.ask(owners);
        ask_for_history(owners);
        answers::settle(owners, http);
        owners.resume_stalled();
        owners.drop_ended();
        subscribe_due(owners);
        watch_health(owners);
        draining::drain(owners);
        notify(owners);
        flushing::flush_all(owners, flusher, &mut http.lists);
        deadlines::expire(owners, http.lists.waiting_for_room());
        owners.connections.reap(&owners.config.limits, |id| http.lists.forget(id));
        offer_room(owners);
        owners.store.maintain(owners.time.now);
    }

    /// How long the next poll may sleep, in milliseconds; `None` is until
    /// something happens. Comes last in a turn.
    pub fn poll_timeout_ms(&mut self) -> Option<u64> {
        let Self { owners, http, .. } = self;
        let engine = owners.store.due_in_ms(owners.time.now);
        let has_work = engine == Some(0)
            || owners.has_work()
            || http.inspections.has_next()
            || http.lists.has_next(owners)
            || draining::has_to_drain(owners);
        let lists_waiting = http.lists.waiting_for_room();
        let server = if has_work { Some(0) } else { deadlines::next_deadline_ms(owners, lists_waiting) };
        let timeout = [server, engine].into_iter().flatten().min();
        owners.clock.sleep(timeout);
        timeout
    }

    /// Begins to stop: from the next turn on, every connection is told and ended.
    pub fn shut_down(&mut self) {
        draining::shut_down(&mut self.owners);
    }

    /// Whether [`Server::shut_down`] was called.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.owners.is_draining()
    }

    /// Whether a shutdown is complete: nothing is left to be stored, and no peer to be told or to be heard out, or the
    /// time for that is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        draining::is_finished(&self.owners)
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.owners.connections.len()
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.owners.metrics
    }

    /// How this server was configured.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.owners.config
    }

    /// What is held, by looking at every connection: for tests, not for a turn.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        invariants::holdings(&self.owners)
    }

    /// Checks the whole structure.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn check_invariants(&self) {
        invariants::check_invariants(&self.owners, &self.http);
    }

    #[cfg(test)]
    pub(super) const fn owners(&mut self) -> &mut Owners<S> {
        &mut self.owners
    }

    /// Checks that nothing is held for anybody: no connection, no channel, no frame,
    /// no question. That must hold when all clients have left and the engine has answered.
    ///
    /// # Panics
    ///
    /// If something is left.
    pub fn check_quiet(&self) {
        invariants::check_quiet(&self.owners, &self.http);
    }
}

#[cfg(test)]
mod tests;
