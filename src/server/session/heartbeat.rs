//! Heartbeats of open WebSockets.

use crate::base::time::Stamp;
use crate::server::connections::{CloseReason, Phase, Protocol, WriteState};
use crate::server::owners::Owners;
use crate::server::socket::Socket;
use crate::wire::protocol::Sequence;
use crate::wire::websocket::codec::{self, CloseCode, OpCode};

use super::many;
use super::replay::note_caught_up;

/// One heartbeat: the peer is told that we live. If it has said nothing for long, it is asked
/// whether it does, too; if it was asked at the heartbeat before, at `since`, and has said
/// nothing yet, it is given up.
pub(in crate::server) fn send_heartbeat<S: Socket>(owners: &mut Owners<S>, index: u32, since: Stamp) {
    let now = owners.time.stamp;
    owners.connections.restart_deadline(index);
    // One that we have yet to read cannot be said to be silent, nor to have been asked.
    if owners.connections.at(index).is_unread() {
        owners.connections.note_alive(index);
    }
    let connection = owners.connections.at(index);
    let silent_ms = now.since(connection.heard());
    let ping_after_ms = owners.config.timeouts.ping_after_ms();
    // Not by how long it is silent: a heartbeat that is a little late would find one that the last did not ask.
    let was_silent_ms = silent_ms.saturating_sub(now.since(since));
    if was_silent_ms >= ping_after_ms {
        let output = owners.connections.output(index);
        codec::write_close(Some(CloseCode::Error), "heartbeat timeout", output);
        owners.send_output(index);
        return owners.abort(index, CloseReason::HeartbeatTimeout);
    }
    // One heartbeat waits before a full socket, at the next frame boundary:
    // another would say nothing new.
    if connection.write_state() == WriteState::Blocked && connection.private_bytes() > 0 {
        return;
    }
    owners.metrics.heartbeats += 1;
    // Reading an answer costs as much as writing, so none is asked of a peer that was heard.
    // The Ping first: a client that reads one message at a time has answered
    // it before it is busy with the heartbeat.
    let asks = silent_ms >= ping_after_ms;
    if asks {
        codec::write_frame(OpCode::Ping, b"", owners.connections.output(index));
    }
    if let Some(set) = owners.connections.at(index).set() {
        many::write_heartbeat(owners, index, set);
        return owners.send_output(index);
    }
    note_caught_up(owners, index);
    let is_base = matches!(owners.connections.at(index).phase(), Phase::Open(Protocol::Base, _));
    let timestamp = owners.time.timestamp();
    let envelope = owners.envelope(index, &timestamp);
    if let Some(envelope) = envelope.filter(|one| !is_base || one.sequence == Sequence::Events) {
        owners.write_text(index, |out| envelope.write_heartbeat(out));
    } else if !asks {
        codec::write_frame(OpCode::Pong, b"", owners.connections.output(index));
    }
    owners.send_output(index);
}
