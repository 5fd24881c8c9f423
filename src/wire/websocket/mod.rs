//! WebSocket (RFC 6455) and permessage-deflate (RFC 7692): the handshake, frames, and messages of frames.

pub mod extension;
pub mod handshake;
pub mod codec;
pub mod message;
