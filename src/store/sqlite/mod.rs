//! The embedded engine: one SQLite file, one writer.

pub(crate) mod descriptors;
mod options;
mod opening;
mod file;
mod queries;
mod verify;
mod lists;
mod questions;
mod checkpoint;
mod clocks;
mod counts;
mod details;
mod keys;
mod marks;
mod retention;
mod shrink;
mod housekeeping;
mod health;
mod terms;
mod schema;
mod examine;
mod backup;
mod engine;

pub(crate) use backup::copy;
pub use engine::SqliteEngine;
pub(crate) use examine::{Examined, examine};
pub use file::OpenError;
pub(crate) use file::{folder_of, is_taken, locate, other_names};
pub(crate) use opening::beside;
pub use options::{Durability, StoreOptions};
