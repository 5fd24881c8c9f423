//! polecat: WebSocket channels and an event stream on one hand-written poll loop. Every message is stored,
//! and every client can resume.
//!
//! The modules are floors. Each imports only from those listed before it; `tests/tidy.rs` checks that.
//! [`shell`], [`cli`] and [`store::sqlite`] name sockets, files and clocks. Everything else is a state
//! machine over bytes and a clock that is passed in.

pub mod base;
pub mod wire;
pub mod store;
pub mod hub;
pub mod server;
pub mod load;
pub mod shell;
pub mod cli;
