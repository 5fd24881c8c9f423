//! Bytes to values and back. No state of the server, no socket.

pub mod status;
mod field;
pub mod target;
pub mod request;
mod head;
mod chunked;
pub mod response;
pub mod http;
pub mod accept;
pub mod deflate;
pub mod gzip;
pub mod extension;
pub mod handshake;
pub mod reply;
pub mod codec;
pub mod message;
pub(crate) mod json;
pub mod protocol;
pub mod v1;
pub mod body;
