//! The state that messages pass through: the engine that stores, and channels
//! with their members and logs. No socket and no byte of HTTP.

pub mod terms;
pub mod engine;
pub mod memory;
pub mod entry;
pub mod channel;
pub mod registry;
