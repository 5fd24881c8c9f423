//! The server's outside: the poll loop, sockets, signals, the clock, and the flags of `polecat serve`.

pub mod options;
pub(crate) mod stream;
pub(crate) mod clock;
pub(crate) mod lines;
mod process;
pub(crate) mod heap;
pub(crate) mod listeners;
pub(crate) mod notify;
pub mod reactor;
pub(crate) mod flags;
