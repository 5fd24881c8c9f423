//! What a store promises, and how much it keeps.

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What an answer promises.
    pub durability: Durability,
    /// Messages kept, over all channels, the newest; `None` is all of them.
    pub retain_messages: Option<u64>,
    /// Events kept, the newest; `None` is all of them.
    pub retain_events: Option<u64>,
    /// Days, or fractions of them, for which records are kept; `None` is for ever.
    pub retain_days: Option<f64>,
    /// Milliseconds for which the key of an append is remembered.
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

/// What it takes for a record to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    // The operating system has it: it survives the end of the process, however
    // sudden, and a power cut once the log was copied back.
    Normal,
    // The disk has it: every commit waits for that, and it survives a power cut.
    Full,
}
