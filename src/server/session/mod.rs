//! Open WebSockets: how they are opened, what they send, and how they get what is theirs. Functions of the owners; only
//! the flusher has something of its own.

mod replay;
mod start;
mod many;
pub(super) mod opening;
mod messages;
mod heartbeat;
mod notices;
mod flush;

pub(super) use flush::Flusher;
pub(super) use heartbeat::send_heartbeat;
pub(super) use many::subscribe_due;
pub(super) use messages::decode_message;
pub(super) use notices::{health_payload, notify, watch_health};
pub(super) use opening::upgrade;
pub(super) use replay::{apply_count, ask_for_history, give_up_on, is_awaited};
