//! The outside world: the only floor that names `mio`, `rusqlite`, sockets,
//! files, the environment and the clock.

pub mod sqlite;
pub mod options;
pub mod reactor;
mod lines;
mod flags;
pub mod cli;
