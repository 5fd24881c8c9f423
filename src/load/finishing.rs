//! How a run ends: by itself, when all that was sent has arrived or nothing comes any more, or early.

use crate::server::socket::Socket;

use super::driver::{Driver, Stage};
use super::peer::{Peer, Phase, Role};

impl<S: Socket> Driver<S> {
    /// Ends the run early: nothing more is sent. What is on its way is waited for, unless this is said again, or not all
    /// connections are open yet.
    pub fn stop(&mut self, now_us: u64) {
        self.now_us = now_us;
        match self.stage {
            Stage::WarmUp | Stage::Measuring => self.enter(Stage::Finishing),
            Stage::Connecting | Stage::Finishing | Stage::Done => self.enter(Stage::Done),
        }
    }

    /// Whether all that was sent has arrived.
    pub(super) fn is_through(&mut self) -> bool {
        let published = self.published_in_order();
        let has_all = |peer: &Peer<S>| match peer.role {
            Role::Subscriber { .. } => peer.position >= published || peer.phase == Phase::Ended,
            _ => true,
        };
        let is_due = self.plan.messages_max.is_some() && !self.is_said();
        if self.outstanding > 0 || is_due || !self.is_connected() {
            return false;
        }
        // From the one that was found last, once around.
        let all = (self.laggard..self.peers.len()).chain(0..self.laggard);
        let laggard = { all }.find(|index| !has_all(&self.peers[*index]));
        self.laggard = laggard.unwrap_or_default();
        laggard.is_none()
    }

    /// Who has no answer to a handshake by now gets none.
    pub(super) fn give_up_handshakes(&mut self) {
        for index in 0..self.plan.peers() {
            let peer = &self.peers[index as usize];
            if peer.phase == Phase::Handshake && peer.role != Role::Dribbler {
                self.end(index, "no answer to the handshake");
            }
        }
    }

    /// What has not come by now does not come.
    pub(super) fn count_missing(&mut self) {
        let published = self.published_in_order();
        for peer in &self.peers {
            match peer.role {
                Role::Subscriber { .. } if peer.phase != Phase::Ended => {
                    self.order.give_up(peer.position, published);
                }
                Role::Echo | Role::Poster if peer.phase != Phase::Ended => {
                    self.order.faults.lost += u64::from(peer.sent - peer.position);
                }
                _ => {}
            }
        }
    }
}
