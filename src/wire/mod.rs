//! Conversion between bytes and values, without state of the server and without sockets.

pub mod deflate;
pub mod http;
pub mod websocket;
pub mod reply;
pub(crate) mod json;
pub mod protocol;
pub mod v1;
pub mod stream;
pub mod body;
