//! The store: the engine as the server sees it, an engine in memory, and an engine in an SQLite file.

pub mod terms;
pub mod engine;
pub mod memory;
pub mod sqlite;
