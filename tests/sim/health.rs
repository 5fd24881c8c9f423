//! The health of the store, as who is on `/ws` must hear of it (PROTOCOL 15.3).

use std::cell::RefCell;
use std::rc::Rc;

use polecat::store::engine::Health;

use crate::pipe::Wire;

/// Every health that the engine of one life of a server had at the end of a turn, in order.
#[derive(Debug)]
pub(crate) struct HealthLog(RefCell<Vec<String>>);

impl Default for HealthLog {
    fn default() -> Self {
        Self(RefCell::new(vec![payload(&Health::Sound)]))
    }
}

impl HealthLog {
    /// A turn ends with this one.
    pub(crate) fn note(&self, health: &Health) {
        let payload = payload(health);
        let mut log = self.0.borrow_mut();
        if log.last() != Some(&payload) {
            log.push(payload);
        }
    }

    /// The place of what is the case now.
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

/// What one connection has heard.
#[derive(Debug)]
pub(crate) struct Told {
    log: Rc<HealthLog>,
    /// What was the case when it joined at the latest: of all after it, it must hear.
    joined: usize,
    /// What was the case when it joined at the earliest, or when it was told last.
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

    /// Takes in a `health_status`: a change that it was not told of yet.
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

    /// Whether the store works, and this connection knows what it must. Where the
    /// health changes again before all are told, the last word is enough.
    pub(crate) fn is_through(&self) -> bool {
        let log = self.log.0.borrow();
        let newest = log.len() - 1;
        let is_sound = log[newest] == payload(&Health::Sound);
        is_sound && (newest == self.joined || (self.is_told && log[self.since] == log[newest]))
    }
}
