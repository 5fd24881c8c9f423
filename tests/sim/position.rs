//! The position of a client of `polecat.v1`: what it must remember to continue from there, what it has
//! received up to there, and the answer that it must get (PROTOCOL 14.2, 14.3).

use std::rc::Rc;

use crate::model::{Ledger, Run, prefix};

/// Earlier positions that a client remembers, as one that was itself restored would.
const PAST_MAX: usize = 4;

/// The state that it remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Position {
    pub(crate) id: Option<u64>,
    epoch: String,
    /// The epoch of the latest `hello`, until the next message.
    next_epoch: Option<String>,
    /// Everything that it has received up to there, with the ids.
    got: Vec<(u64, Rc<str>)>,
    /// Earlier positions.
    past: Vec<Position>,
}

/// The position that it asks to continue from.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) id: Option<u64>,
    epoch: Option<String>,
    /// Whether it has received everything up to there.
    goes_on: bool,
}

impl Position {
    /// Asks to continue from here, from the start, from the end, from nowhere, from an earlier position, or
    /// not at all.
    pub(crate) fn ask(&mut self, stream: &str, random: &mut fastrand::Rng) -> Option<Asked> {
        if self.id.is_some() && random.u32(..8) == 0 {
            self.past.truncate(PAST_MAX - 1);
            let here = Self { past: Vec::new(), next_epoch: None, ..self.clone() };
            self.past.insert(0, here);
        }
        let choice = random.u32(..14);
        if choice == 6 && !self.past.is_empty() {
            let past = self.past[random.usize(..self.past.len())].clone();
            *self = Self { past: std::mem::take(&mut self.past), ..past };
        }
        self.next_epoch = None;
        let epoch = (!self.epoch.is_empty()).then(|| self.epoch.clone());
        let text = |id: u64| format!("{}{id:05}", prefix(stream));
        let (text, id, epoch) = match choice {
            0 => return None,
            1 => (text(0), Some(0), epoch),
            2 => (text(u64::from(u32::MAX)), Some(u64::from(u32::MAX)), epoch),
            3 => ("yesterday".to_owned(), None, epoch),
            4 => (text(self.id?), self.id, Some("another".to_owned())),
            5 => (text(self.id?), self.id, None),
            _ => (text(self.id?), self.id, epoch),
        };
        Some(Asked { text, id, epoch, goes_on: choice > 5 })
    }

    /// It gets `hello` from a server of that epoch, which has sent it everything up to `cursor`.
    pub(crate) fn greet(&mut self, epoch: &str, cursor: u64, asked: Option<&Asked>) {
        self.next_epoch = Some(epoch.to_owned());
        if asked.is_none() {
            self.forget();
            self.stand_at(cursor);
        }
    }

    /// Everything up to `id` was sent.
    pub(crate) fn stand_at(&mut self, id: u64) {
        self.id = Some(id);
        if let Some(epoch) = self.next_epoch.take() {
            self.epoch = epoch;
        }
    }

    pub(crate) fn forget(&mut self) {
        self.got.clear();
    }

    pub(crate) fn take(&mut self, id: u64, text: &str) {
        self.got.push((id, Rc::from(text)));
        self.stand_at(id);
    }

    /// It is told that its ids up to `agreed` mean the same to the server: if so, it has received the same.
    pub(crate) fn agree(&mut self, ledger: &Ledger, run: &Run, stream: &str, asked: &Asked, agreed: u64) {
        self.got.retain(|(id, _)| asked.goes_on && *id <= agreed);
        for (id, text) in &self.got {
            assert_eq!(ledger.text(run.era, stream, *id), Some(text), "{id} means two things");
        }
    }
}

impl Asked {
    /// The query of the handshake.
    pub(crate) fn query(&self) -> String {
        let epoch = self.epoch.as_ref().map_or_else(String::new, |epoch| format!("&epoch={epoch}"));
        format!("?last_event_id={}{epoch}", self.text)
    }

    /// The last id that means the same to it and to a server of `era` with this newest id; `None` if it is
    /// unknown.
    fn agreement(&self, ledger: &Ledger, era: usize, stream: &str, newest: u64) -> Option<u64> {
        let id = self.id?;
        match &self.epoch {
            None => (id <= newest).then_some(id),
            Some(epoch) => Some(id.min(newest).min(ledger.agreed(era, epoch, stream).unwrap_or(0))),
        }
    }

    pub(crate) fn agreed(&self, ledger: &Ledger, era: usize, stream: &str, newest: u64) -> u64 {
        self.agreement(ledger, era, stream, newest).unwrap_or(0)
    }

    /// Whether the id is accepted, and nothing after it has been deleted, given that ids from `oldest` on are
    /// kept.
    pub(crate) fn is_resumable(
        &self,
        ledger: &Ledger,
        era: usize,
        stream: &str,
        (oldest, newest): (u64, u64),
    ) -> bool {
        let agreed = self.agreement(ledger, era, stream, newest);
        agreed.is_some() && agreed == self.id && agreed.is_some_and(|id| id + 1 >= oldest)
    }

    /// Whether it was told an epoch other than this.
    pub(crate) fn is_of_other_term(&self, epoch: &str) -> bool {
        self.goes_on && self.epoch.as_deref().is_some_and(|asked| asked != epoch)
    }
}
