//! Everything that messages pass through: channels with their members and logs. It knows no sockets, no store
//! and no HTTP.

pub mod member;
pub mod subscriptions;
pub mod entry;
pub mod channel;
pub mod registry;
