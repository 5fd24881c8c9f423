//! What a turn sends: private messages, messages that were missed, and new ones. And what follows when a connection has
//! taken everything.

use super::connections::Phase;
use super::http::{Lists, settle_request};
use super::owners::Owners;
use super::room::shed_holders;
use super::session::Flusher;
use super::socket::Socket;

/// If there is more than a turn may write, each of the three gets its share.
pub(super) fn flush_all<S: Socket>(owners: &mut Owners<S>, flusher: &mut Flusher, lists: &mut Lists) {
    let budget = flusher.bytes_left();
    let reserved = match (owners.store.has_pages(), owners.hub.has_sweeps()) {
        (false, false) => 0,
        _ => budget / 2,
    };
    let mut left = owners.config.budgets.flushes;
    while flusher.bytes_left() > reserved
        && let Some(index) = owners.connections.next_to_flush(&mut left)
    {
        if flusher.flush(owners, index) {
            after_flush(owners, lists, index);
        }
    }
    flusher.send_pages(owners, if owners.hub.has_sweeps() { budget / 4 } else { 0 });
    flusher.sweep(owners);
    shed_holders(owners);
}

/// Everything was sent: what waited for that goes on.
fn after_flush<S: Socket>(owners: &mut Owners<S>, lists: &mut Lists, index: u32) {
    if let Phase::Ending(kind) = owners.connections.at(index).phase() {
        // The peer is told that nothing more comes, and its end is waited for.
        if let Err(reason) = owners.connections.linger(index, kind) {
            owners.abort(index, reason);
        }
        return;
    }
    if let Some(set) = owners.connections.at(index).set() {
        owners.subscriptions.resume_request(set);
    }
    if owners.connections.at(index).awaits_response() {
        lists.go_on(owners, index);
    }
    settle_request(owners, index);
}
