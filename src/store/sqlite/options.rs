//! What a store promises, and how much it keeps.

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// The number of newest messages to keep, of all channels; `None` keeps all.
    pub retain_messages: Option<u64>,
    /// The number of newest events to keep; `None` keeps all.
    pub retain_events: Option<u64>,
    /// Days, or fractions of days, for which to keep records; `None` is for ever.
    pub retain_days: Option<f64>,
    /// Milliseconds for which to remember the key of an append.
    pub idempotency_window_ms: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Normal,
            retain_messages: None,
            retain_events: Some(10_000),
            retain_days: None,
            idempotency_window_ms: 300_000,
        }
    }
}

/// When a record counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    // When the operating system has it. It survives the end of the process, however sudden, and a power cut
    // once the log was copied back.
    Normal,
    // When it is on the disk. Every commit waits for the disk, and the record survives a power cut.
    Full,
}
