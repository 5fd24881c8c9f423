//! From where a client of `polecat.v1` wants to go on, and what it must be answered (PROTOCOL 14.3).

/// What it names.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) id: Option<u64>,
    pub(crate) is_same_epoch: bool,
}

impl Asked {
    /// The last id that means the same to it and to a server whose newest is that.
    pub(crate) fn agreed(&self, newest: u64) -> u64 {
        self.id.filter(|_| self.is_same_epoch).map_or(0, |id| id.min(newest))
    }
}
