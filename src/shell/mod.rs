//! The outside world: the only floor that names `mio`, `rusqlite`, sockets,
//! files, the environment and the clock.

pub mod sqlite;
pub mod options;
mod stream;
mod lines;
mod listeners;
mod notify;
mod resident;
pub mod reactor;
mod load;
mod flags;
pub mod cli;
