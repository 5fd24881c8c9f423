//! What messages pass through: channels with their members and logs. No socket, no store, and no byte of HTTP.

pub mod entry;
pub mod channel;
pub mod registry;
