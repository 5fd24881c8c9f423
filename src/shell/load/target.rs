//! Where a run goes: URLs, and the addresses that connections come from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use crate::load::plan::Endpoint;

/// A parsed `ws://` or `http://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port, as they were written.
    authority: String,
    /// Path and query.
    target: String,
}

/// Connections that one source address may have: of the 28,000 ephemeral ports of an ordinary
/// system most may still be held by the runs of the last minute, and the search for a free one is slow.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;

impl Url {
    /// Parses a URL whose scheme is `ws` or `http`: there is no TLS here.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("ws://")
            .or_else(|| text.strip_prefix("http://"))
            .ok_or("not a URL that begins with ws:// or http://")?;
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.is_empty() || !target.is_ascii() || target.contains([' ', '#']) {
            return Err("not a URL such as ws://127.0.0.1:8010/api/ws".to_owned());
        }
        let slash = if target.starts_with('?') { "/" } else { "" };
        Ok(Self { authority: authority.to_owned(), target: format!("{slash}{target}") })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.authority.clone(), target: self.target.clone() }
    }

    /// Another path on the same host.
    pub(super) fn at(&self, target: &str) -> Self {
        Self { authority: self.authority.clone(), target: target.to_owned() }
    }

    /// The address that the host has.
    pub(super) fn addr(&self) -> Result<SocketAddr, String> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let addrs = authority.to_socket_addrs().map_err(|error| format!("{authority}: {error}"))?;
        addrs.into_iter().next().ok_or_else(|| format!("{authority} has no address"))
    }

    /// The last segment of the path: the name of a channel, as it is written there.
    pub(super) fn last_segment(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

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
    /// As many addresses of loopback as `connections` need, where the server is there and one
    /// is not enough.
    pub(super) fn found(server: SocketAddr, connections: u32) -> Option<Self> {
        let count = connections.div_ceil(CONNECTIONS_PER_SOURCE);
        let is_ours = server.is_ipv4() && server.ip().is_loopback();
        (is_ours && count > 1).then_some(Self { first: u32::from(Ipv4Addr::LOCALHOST), count })
    }

    /// The address that connection `number` comes from.
    pub(super) fn of(self, number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.first + number % self.count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("ws://127.0.0.1:8010/api/ws/room?x=1").unwrap();
        assert_eq!(url.endpoint().target, "/api/ws/room?x=1");
        assert_eq!(url.last_segment(), "room");
        assert_eq!(url.addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 8010)));
        assert_eq!(Url::parse("http://127.0.0.1").unwrap().addr().unwrap().port(), 80);
        assert_eq!(Url::parse("http://127.0.0.1?a").unwrap().endpoint().target, "/?a");
        for wrong in ["", "wss://a/", "127.0.0.1:8010", "ws:///x", "ws://a/b c"] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

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
