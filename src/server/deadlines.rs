//! Deadlines: heartbeats, and the time-outs of peers that do not go on.

use crate::base::limit::Limit;
use crate::wire::http::decoder::{Refusal, Status, begins_head};

use super::connections::{CloseReason, Deadline};
use super::draining::drain_due_in_ms;
use super::http::refuse;
use super::owners::Owners;
use super::room::{expire_holders, holders_due_in_ms};
use super::session::send_heartbeat;
use super::socket::Socket;

/// Does what is due, as much as the budget allows.
pub(super) fn expire<S: Socket>(owners: &mut Owners<S>, lists_waiting: usize) {
    let mut budget = owners.config.budgets.deadlines;
    for deadline in Deadline::ALL {
        let wait_ms = deadline.wait_ms(&owners.config.timeouts);
        while budget > 0
            && let Some((index, since)) = owners.connections.overdue(deadline, wait_ms)
        {
            budget -= 1;
            match deadline {
                Deadline::Handshake => request_is_late(owners, index, CloseReason::HandshakeTimeout),
                Deadline::Request => request_is_late(owners, index, CloseReason::RequestTimeout),
                Deadline::KeepAlive => idle_is_over(owners, index),
                Deadline::Heartbeat => send_heartbeat(owners, index, since),
                Deadline::Close => close_is_late(owners, index),
            }
        }
    }
    expire_holders(owners, &mut budget, lists_waiting);
    owners.hub.release_idle(owners.time.stamp, owners.config.budgets.deadlines);
}

/// Milliseconds until something of the server itself falls due.
pub(super) fn next_deadline_ms<S: Socket>(owners: &mut Owners<S>, lists_waiting: usize) -> Option<u64> {
    let connections = owners.connections.next_deadline_ms(&owners.config.timeouts);
    let idle = owners.hub.idle_due_in(owners.time.stamp);
    let server = [connections, idle, drain_due_in_ms(owners), holders_due_in_ms(owners, lists_waiting)];
    server.into_iter().flatten().min().map(u64::from)
}

fn idle_is_over<S: Socket>(owners: &mut Owners<S>, index: u32) {
    if owners.connections.at(index).is_unread() {
        // It has sent something: a request, most likely.
        return owners.connections.restart_deadline(index);
    }
    owners.close_after_flush(index, CloseReason::KeepAliveTimeout);
    owners.connections.queue_flush(index);
}

fn request_is_late<S: Socket>(owners: &mut Owners<S>, index: u32, reason: CloseReason) {
    let connection = owners.connections.at(index);
    if connection.is_unread() || connection.is_unwritten() {
        // The peer waits for us.
        owners.connections.restart_deadline(index);
    } else if connection.has_unsent() {
        owners.abort(index, reason);
    } else if connection.awaits_response() {
        // Here, too: the engine has yet to answer.
        owners.connections.restart_deadline(index);
    } else if let Some(unfinished) = connection.unfinished() {
        let head_only = begins_head(unfinished);
        let refusal = Refusal::new(Status::REQUEST_TIMEOUT, "the request did not arrive in time");
        refuse(owners, index, &refusal, head_only, reason);
        owners.send_output(index);
    } else {
        owners.close_after_flush(index, reason);
        owners.connections.queue_flush(index);
    }
}

fn close_is_late<S: Socket>(owners: &mut Owners<S>, index: u32) {
    if owners.connections.at(index).is_unwritten() {
        return owners.connections.restart_deadline(index);
    }
    owners.metrics.limits.count(Limit::CloseTime);
    owners.abort(index, CloseReason::SocketError);
}
