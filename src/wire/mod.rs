//! Bytes to values and back. No state of the server, no socket.

pub mod http;
pub mod handshake;
pub mod codec;
pub mod message;
pub mod protocol;
pub mod body;
