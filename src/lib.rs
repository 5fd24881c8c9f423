//! polecat: WebSocket channels and an event stream on one hand-written poll
//! loop, every message stored, every client resumable.
//!
//! The modules are floors. Each imports only from those listed before it;
//! `tests/tidy.rs` checks that. Everything above [`shell`] is a state machine
//! over bytes and a clock that is handed in: no socket, no file, no clock, no
//! randomness of its own.

pub mod ground;
pub mod wire;
pub mod hub;
pub mod server;
pub mod load;
pub mod shell;
