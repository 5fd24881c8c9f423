//! Which connection goes on when there is room for unsent bytes, and which one is closed for the sake of others.

use crate::wire::websocket::codec::{self, CloseCode};

use super::connections::{CloseReason, Eviction};
use super::owners::Owners;
use super::socket::Socket;

/// Lets as many go on as there is room for.
pub(super) fn offer_room<S: Socket>(owners: &mut Owners<S>) {
    if owners.connections.waits_for_room() {
        owners.connections.offer_room(owners.store.backlog_bytes(), &owners.config.limits);
    }
}

/// Closes connections that hold something, take nothing of it, and make others wait.
pub(super) fn expire_holders<S: Socket>(owners: &mut Owners<S>, budget: &mut usize, lists_waiting: usize) {
    let wait_ms = owners.config.timeouts.request_ms;
    while *budget > 0 && is_room_wanted(owners, lists_waiting) {
        let others_waiting = others_waiting(owners, lists_waiting);
        let Some(eviction) = owners.connections.evict_holder(others_waiting, wait_ms) else { return };
        *budget -= 1;
        match eviction {
            Eviction::Spared => {}
            Eviction::Aborted(index) => owners.abort(index, CloseReason::Unsent),
            Eviction::Closed(index) => {
                let output = owners.connections.output(index);
                codec::write_close(Some(CloseCode::Again), "too much is unsent", output);
                owners.connections.push_output(index);
                owners.close_after_flush(index, CloseReason::Unsent);
                owners.connections.queue_flush(index);
                owners.connections.give_time(index);
            }
        }
    }
}

/// Milliseconds until [`expire_holders`] has something to do.
pub(super) fn holders_due_in_ms<S: Socket>(owners: &mut Owners<S>, lists_waiting: usize) -> Option<u32> {
    if !is_room_wanted(owners, lists_waiting) {
        return None;
    }
    let (others_waiting, wait_ms) =
        (others_waiting(owners, lists_waiting), owners.config.timeouts.request_ms);
    owners.connections.holders_due_in_ms(others_waiting, wait_ms)
}

/// Whether anything may wait for room: mostly, nothing does.
fn is_room_wanted<S: Socket>(owners: &Owners<S>, lists_waiting: usize) -> bool {
    owners.connections.waits_for_room() || lists_waiting > 0
}

/// How many lists wait for room for a record, beside connections.
fn others_waiting<S: Socket>(owners: &Owners<S>, lists_waiting: usize) -> usize {
    if owners.has_room() { 0 } else { lists_waiting }
}

/// Drops connections in the middle of large messages, first those that have taken nothing for the longest time,
/// until what they hold is within its bound and one message.
pub(super) fn shed_holders<S: Socket>(owners: &mut Owners<S>) {
    let message_bytes_max = owners.config.limits.message_bytes_max;
    while let Some(index) = owners.connections.holder_beyond_bound(message_bytes_max) {
        owners.abort(index, CloseReason::Unsent);
    }
}
