//! HTTP/1.1 (RFC 9110, RFC 9112), strictly: requests from bytes, responses to bytes.

pub mod status;
pub(crate) mod field;
pub mod target;
pub mod request;
mod head;
mod chunked;
pub mod response;
pub mod decoder;
pub mod accept;
pub mod gzip;
