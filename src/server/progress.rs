//! How far decoding has come.

/// What one step of decoding came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Progress {
    /// This many bytes were used.
    Consumed(usize),
    /// This many bytes were used, and WebSocket frames follow them.
    Upgraded(usize),
    /// More bytes are needed.
    NeedMore,
}
