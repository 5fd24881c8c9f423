//! The outside world: the only floor that names `mio`, `rusqlite`, sockets,
//! files, the environment and the clock.

mod descriptors;
pub mod sqlite;
pub mod options;
mod stream;
mod clock;
mod lines;
mod process;
mod url;
mod listeners;
mod notify;
pub mod reactor;
mod load;
mod flags;
mod client;
pub mod cli;
