//! How many connections there are, as health and metrics tell it.

use crate::server::connections::Counts;
use crate::server::owners::Owners;
use crate::server::socket::Socket;

/// How many connections there are, by kind.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct ConnectionCounts {
    pub(super) open: usize,
    pub(super) max: Option<usize>,
    pub(super) http: usize,
    pub(super) events: usize,
    pub(super) channel: usize,
    pub(super) stream: usize,
    pub(super) echo: usize,
    pub(super) closing: usize,
    /// Subscribers among them that take less than they are sent.
    pub(super) lagging: usize,
}

/// Counts of connections from the totals that are kept, without looking at any connection.
pub(super) fn count_connections<S: Socket>(owners: &Owners<S>) -> ConnectionCounts {
    let Counts { http, open, echo, stream, closing, lagging, .. } = owners.connections.counts();
    let events = owners.hub.event_connections();
    let max = owners.config.limits.connections_max;
    ConnectionCounts {
        open: http + open + closing,
        max: (max < usize::MAX).then_some(max),
        http,
        events,
        channel: open - events - echo - stream,
        stream,
        echo,
        closing,
        lagging: lagging + owners.subscriptions.lagging(),
    }
}
