//! Which pages may talk to us: the `Origin` of a request (RFC 6454) against the
//! authority that the request is for, and a list.

use core::net::IpAddr;

/// The pages that may connect beside those of the server's own host and, for a server
/// on loopback, those on loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<String>,
}

/// A text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrigin;

impl AllowedOrigins {
    /// Adds one: `SCHEME://HOST[:PORT]`, `null`, or `*` for all.
    ///
    /// # Errors
    ///
    /// Where it is none of them.
    pub fn add(&mut self, origin: &str) -> Result<(), NotAnOrigin> {
        if origin == "*" {
            self.any = true;
        } else if origin == "null" || Origin::parse(origin).is_some() {
            self.listed.push(canonical(origin));
        } else {
            return Err(NotAnOrigin);
        }
        Ok(())
    }

    /// Whether a page of `origin` may talk to the server under the authority `host`.
    #[must_use]
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        if self.any || (!self.listed.is_empty() && self.listed.contains(&canonical(origin))) {
            return true;
        }
        let (Some(origin), Some(host)) = (Origin::parse(origin), host) else { return false };
        let (name, port) = split_authority(host);
        let same_port = port == origin.port || port.is_none() && origin.port == origin.default_port();
        (name.eq_ignore_ascii_case(origin.host) && same_port)
            || (is_loopback(origin.host) && is_loopback(name))
    }
}

/// An origin as all ways to write it come to: in small letters, with its port.
fn canonical(text: &str) -> String {
    match Origin::parse(text) {
        Some(Origin { scheme, host, port: Some(port) }) => format!("{scheme}://{host}:{port}"),
        _ => text.trim_end_matches('/').to_owned(),
    }
    .to_ascii_lowercase()
}

struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.trim_end_matches('/').split_once("://")?;
        let (host, port) = split_authority(authority);
        let legal = !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !host.is_empty()
            && !host.contains(['/', '@', ' ', '*'])
            && (port.is_some() || !authority[host.len()..].contains(':'));
        let mut origin = Self { scheme, host, port };
        origin.port = port.or_else(|| origin.default_port());
        legal.then_some(origin)
    }

    fn default_port(&self) -> Option<u16> {
        let is_one_of = |names: [&str; 2]| names.iter().any(|name| self.scheme.eq_ignore_ascii_case(name));
        if is_one_of(["http", "ws"]) {
            Some(80)
        } else if is_one_of(["https", "wss"]) {
            Some(443)
        } else {
            None
        }
    }
}

/// Host, with its brackets if it has some, and port.
fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let host_len = if authority.starts_with('[') {
        authority.find(']').map_or(authority.len(), |end| end + 1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(host_len);
    let port = rest.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    (host, port.and_then(|port| port.parse().ok()))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = host.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_of_the_same_host_and_port_may_and_others_may_not() {
        let list = AllowedOrigins::default();
        for (origin, host, allowed) in [
            ("http://example.com", "example.com", true),
            ("http://example.com:80", "example.com", true),
            ("https://example.com", "example.com", true),
            ("https://Example.com", "example.COM:443", true),
            ("http://example.com:8010", "example.com:8010", true),
            ("http://example.com:8011", "example.com:8010", false),
            ("http://example.com", "example.com:8010", false),
            ("http://example.org", "example.com", false),
            ("http://sub.example.com", "example.com", false),
            ("http://localhost:3000", "127.0.0.1:8010", true),
            ("http://127.0.0.2", "localhost:8010", true),
            ("http://[::1]:3000", "[::1]:8010", true),
            ("http://app.localhost", "127.0.0.1", true),
            ("http://127.0.0.1.example.com", "127.0.0.1", false),
            ("http://notlocalhost", "127.0.0.1", false),
            ("http://localhost:3000", "example.com", false),
            ("http://example.com", "localhost:8010", false),
            ("null", "localhost:8010", false),
            ("", "localhost:8010", false),
            ("http://", "localhost", false),
            ("http://a@localhost", "localhost", false),
            ("localhost", "localhost", false),
            ("http://localhost:x", "localhost", false),
            ("http://localhost:+1", "localhost", false),
            ("http://[[::1]]", "localhost", false),
            ("http://[::1", "localhost", false),
        ] {
            assert_eq!(list.allow(origin, Some(host)), allowed, "{origin} {host}");
        }
        assert!(!list.allow("http://example.com", None));
    }

    #[test]
    fn a_list_lets_others_in() {
        let mut list = AllowedOrigins::default();
        list.add("https://App.example/").unwrap();
        list.add("null").unwrap();
        assert!(list.allow("https://app.example", Some("localhost")));
        assert!(list.allow("null", None));
        assert!(!list.allow("https://app.example:8443", Some("localhost")));
        for wrong in ["example.com", "http://", "http://*", "https://a/b", "", "http://a:b"] {
            assert_eq!(list.add(wrong), Err(NotAnOrigin), "{wrong}");
        }
        list.add("*").unwrap();
        assert!(list.allow("http://anything", None));
    }

    #[test]
    fn a_listed_origin_is_the_same_with_and_without_its_usual_port() {
        let mut list = AllowedOrigins::default();
        for listed in ["https://app.example:443", "http://b.example", "app://x"] {
            list.add(listed).unwrap();
        }
        for (origin, allowed) in [
            ("https://app.example", true),
            ("https://APP.example:443", true),
            ("http://app.example", false),
            ("http://b.example:80", true),
            ("http://b.example:8080", false),
            ("app://x", true),
            ("app://y", false),
        ] {
            assert_eq!(list.allow(origin, Some("elsewhere")), allowed, "{origin}");
        }
    }
}
