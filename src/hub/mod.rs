//! The state that messages pass through: channels with their members and logs,
//! and the engine that stores. No socket and no byte of HTTP.

pub mod channel;
pub mod registry;
pub mod engine;
