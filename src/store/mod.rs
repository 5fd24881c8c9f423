//! What is stored: the engine as the server sees it, one in memory, and one in a file of SQLite.

pub mod terms;
pub mod engine;
pub mod memory;
pub mod sqlite;
