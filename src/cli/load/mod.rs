//! `polecat load`: the load generator on a poll loop of its own. It owns sockets and the clock; `load`
//! decides what is sent and checked.

mod target;
mod flags;
mod process;
mod report;
mod runner;

pub(super) use flags::Load;
pub(super) use runner::run;
