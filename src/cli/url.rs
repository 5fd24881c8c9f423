//! URLs of our own clients: `http://` and `ws://`, since they do not speak TLS.

use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::base::authority::{Authority, AuthorityError};
use crate::load::plan::Endpoint;

/// A parsed `ws://` or `http://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port, as they were written.
    authority: String,
    /// Path and query.
    target: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => {}
            "wss" | "https" => {
                return Err(
                    "polecat does not speak TLS: give the http:// or ws:// URL of a proxy on this machine that does, or of a \
                     tunnel, such as ssh -L 8010:127.0.0.1:8010 HOST"
                    .to_owned(),
                );
            }
            _ => return Err("not a URL that begins with ws:// or http://".to_owned()),
        }
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let is_target = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match Authority::parse(authority) {
            Err(AuthorityError::Port) => return Err("its port is not a number up to 65535".to_owned()),
            Ok(_) if is_target => {}
            _ => return Err("not a URL such as http://127.0.0.1:8010".to_owned()),
        }
        let slash = if target.starts_with('?') { "/" } else { "" };
        Ok(Self { authority: authority.to_owned(), target: format!("{slash}{target}") })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.authority.clone(), target: self.target.clone() }
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Another path on the same host.
    pub(super) fn at(&self, target: &str) -> Self {
        Self { authority: self.authority.clone(), target: target.to_owned() }
    }

    /// The server's `target` below our path: a proxy may serve the server's root there.
    pub(super) fn below(&self, target: &str) -> String {
        let root = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        format!("{root}{target}")
    }

    /// The addresses of the host, at least one.
    pub(super) fn addrs(&self) -> Result<Vec<SocketAddr>, String> {
        let text = &self.authority;
        let Ok(authority) = Authority::parse(text) else { return Err(format!("{text} is not a host")) };
        let port = authority.port.unwrap_or(80);
        let host = authority.ipv6().map_or_else(|| authority.host.to_owned(), |addr| addr.to_string());
        let addrs = (host.as_str(), port).to_socket_addrs().map_err(|error| format!("{text}: {error}"))?;
        let addrs = addrs.collect::<Vec<_>>();
        if addrs.is_empty() { Err(format!("{text} has no address")) } else { Ok(addrs) }
    }

    pub(super) fn addr(&self) -> Result<SocketAddr, String> {
        let addrs = self.addrs()?;
        addrs.first().copied().ok_or_else(|| format!("{} has no address", self.authority))
    }

    /// The last segment of the path: the name of a channel, as it is written there.
    pub(super) fn last_segment(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
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
        assert_eq!(Url::parse("http://127.0.0.1:").unwrap().addr().unwrap().port(), 80);
        for (url, addr) in [("http://[::1]:9/x", "[::1]:9"), ("ws://[::1]", "[::1]:80")] {
            assert_eq!(Url::parse(url).unwrap().addr().unwrap().to_string(), addr);
        }
        assert_eq!(Url::parse("HTTP://127.0.0.1?a").unwrap().endpoint().target, "/?a");
        for wrong in [
            "",
            "ftp://a/",
            "127.0.0.1:8010",
            "ws:///x",
            "ws://a/b c",
            "http://u@a/",
            "http://a\r\n/",
            "http://[::1",
            "http://::1/",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
        for encrypted in ["wss://a/", "https://a"] {
            assert!(Url::parse(encrypted).unwrap_err().contains("tunnel"), "{encrypted}");
        }
    }

    #[test]
    fn paths_go_below_that_of_a_proxy() {
        for (url, target) in [
            ("http://127.0.0.1:8010", "/ws"),
            ("http://127.0.0.1:8010/", "/ws"),
            ("http://127.0.0.1/live/", "/live/ws"),
            ("ws://127.0.0.1/live?x", "/live/ws"),
        ] {
            assert_eq!(Url::parse(url).unwrap().below("/ws"), target, "{url}");
        }
    }
}
