//! The health of the store, as clients of `/ws` must be told (PROTOCOL 15.3).

use std::cell::RefCell;
use std::rc::Rc;

use polecat::store::engine::Health;

use crate::pipe::Wire;

/// Every health that the engine had at the end of a turn, in order, during one life of a server.
#[derive(Debug)]
pub(crate) struct HealthLog(RefCell<Vec<String>>);

impl Default for HealthLog {
    fn default() -> Self {
        Self(RefCell::new(vec![payload(&Health::Sound)]))
    }
}

impl HealthLog {
    /// A turn ends with this health.
    pub(crate) fn note(&self, health: &Health) {
        let payload = payload(health);
        let mut log = self.0.borrow_mut();
        if log.last() != Some(&payload) {
            log.push(payload);
        }
    }

    /// The index of the current health.
    pub(crate) fn newest(&self) -> usize {
        self.0.borrow().len() - 1
    }
}

fn payload(health: &Health) -> String {
    match health {
        Health::Sound => "{\"status\":\"ok\"}".to_owned(),
        Health::Degraded(reason) => format!("{{\"status\":\"degraded\",\"reason\":\"{reason}\"}}"),
    }
}

/// The healths that one connection was told.
#[derive(Debug)]
pub(crate) struct Told {
    log: Rc<HealthLog>,
    /// The health when it joined, at the latest: it must be told of all later ones.
    joined: usize,
    /// The health when it joined, at the earliest, or when it was last told.
    since: usize,
    is_told: bool,
}

impl Told {
    /// The connection is open.
    pub(crate) fn begin(wire: &Wire) -> Self {
        let first_write = wire.first_write.expect("it has written");
        let log = wire.health_log();
        Self { log, joined: first_write.health, since: first_write.health_before, is_told: false }
    }

    /// Takes in a `health_status`: it must be a change that was not reported yet.
    pub(crate) fn take(&mut self, text: &str) {
        let log = self.log.0.borrow();
        let is_said = |payload: &String| {
            text.starts_with(&format!("{{\"type\":\"health_status\",\"payload\":{payload},"))
        };
        let later = log.iter().enumerate().skip(self.since + 1);
        let place = later.map(|(place, payload)| (place, is_said(payload))).find(|(_, is_said)| *is_said);
        let Some((place, _)) = place else {
            panic!("the health did not become so: {text}, after {} of {log:?}", self.since);
        };
        self.since = place;
        self.is_told = true;
    }

    /// Whether the store works, and this connection knows everything that it must. If the health changes
    /// again before all clients are told, the last change is enough.
    pub(crate) fn is_through(&self) -> bool {
        let log = self.log.0.borrow();
        let newest = log.len() - 1;
        let is_sound = log[newest] == payload(&Health::Sound);
        is_sound && (newest == self.joined || (self.is_told && log[self.since] == log[newest]))
    }
}
