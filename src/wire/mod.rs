//! Bytes to values and back. No state of the server, no socket.

pub mod deflate;
pub mod http;
pub mod websocket;
pub mod reply;
pub(crate) mod json;
pub mod protocol;
pub mod v1;
pub mod body;
