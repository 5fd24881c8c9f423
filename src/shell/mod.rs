//! The outside world: the only floor that names `mio`, `rusqlite`, sockets,
//! files, the environment and the clock.

pub mod sqlite;
pub mod options;
mod stream;
mod lines;
<<<<<<< HEAD
mod process;
=======
mod url;
>>>>>>> df39edf5b43b9422fd18fa94fab778006dcca348
pub mod reactor;
mod load;
mod flags;
mod client;
pub mod cli;
