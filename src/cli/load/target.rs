//! The source addresses of a run's connections.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections per source address. An ordinary system has 28,000 ephemeral ports. Runs of the last minute may
/// still hold most of them, and the search for a free one is slow.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;

/// `A-B`, two IPv4 addresses, or one.
pub(super) fn parse_sources(text: &str) -> Result<Sources, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |addr: &str| addr.parse::<Ipv4Addr>().map(u32::from);
    match (parse(first), parse(last)) {
        (Ok(first), Ok(last)) if first <= last => {
            Ok(Sources { first, count: (last - first).saturating_add(1) })
        }
        _ => Err("not of the form 127.0.0.1-127.0.0.40".to_owned()),
    }
}

/// Neighbouring IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sources {
    first: u32,
    count: u32,
}

impl Sources {
    /// As many loopback addresses as `connections` need, if the server is on loopback and one address is not
    /// enough.
    pub(super) fn found(server: SocketAddr, connections: u32) -> Option<Self> {
        let count = connections.div_ceil(CONNECTIONS_PER_SOURCE);
        let is_ours = server.is_ipv4() && server.ip().is_loopback();
        (is_ours && count > 1).then_some(Self { first: u32::from(Ipv4Addr::LOCALHOST), count })
    }

    pub(super) fn of(self, number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.first + number % self.count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_go_round() {
        let sources = parse_sources("127.0.0.1-127.0.0.3").unwrap();
        assert_eq!(sources.of(0), sources.of(3));
        assert_eq!(sources.of(2).to_string(), "127.0.0.3");
        assert!(parse_sources("127.0.0.3-127.0.0.1").is_err());
        let server = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(Sources::found(server, 8_000), None);
        assert_eq!(Sources::found(server, 1_000_000).unwrap().count, 125);
        assert_eq!(Sources::found(SocketAddr::from(([10, 0, 0, 1], 1)), 1_000_000), None);
    }
}
