//! Which pages may connect: the `Origin` of a request (RFC 6454) is compared with the authority that the
//! request is for, and with a list.

use core::net::IpAddr;
use std::fmt;

use super::authority::Authority;

/// The pages that may connect, in addition to those of the server's own host and, for a server on loopback,
/// those on loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    listed: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnOrigin(&'static str);

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

const WRONG_FORM: NotAnOrigin = NotAnOrigin("not of the form SCHEME://HOST[:PORT], null or *");
const NOT_ASCII: NotAnOrigin = NotAnOrigin("a host must be in ASCII, as browsers send it (xn--…)");
const NOT_OF_A_PAGE: NotAnOrigin = NotAnOrigin("the origin of a page begins with http:// or https://");

/// The origin of a page from a file in a request, and in the handshake of a WebSocket.
const FILES: [&str; 2] = ["null", "file://"];

impl AllowedOrigins {
    /// Adds one: `SCHEME://HOST[:PORT]`, `file://`, `null` for pages from files and other pages without an
    /// origin, or `*` for all. White space around it and a slash at its end are ignored.
    pub fn add(&mut self, origin: &str) -> Result<(), NotAnOrigin> {
        match origin.trim_ascii() {
            "*" => self.any = true,
            "null" => self.listed.extend(FILES.map(str::to_owned)),
            origin => {
                let origin = Origin::parse(origin)?;
                if origin.is_scheme(&["ws", "wss"]) {
                    return Err(NOT_OF_A_PAGE);
                }
                self.listed.push(origin.canonical());
            }
        }
        Ok(())
    }

    /// Whether a page of `origin` may connect to the server under the authority `host`.
    pub fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        let parsed = Origin::parse(origin);
        if self.any || (!self.listed.is_empty() && self.lists(origin, parsed.ok())) {
            return true;
        }
        let (Ok(origin), Some(Ok(host))) = (parsed, host.map(Authority::parse)) else { return false };
        let same_port =
            host.port == origin.port || host.port.is_none() && origin.port == origin.default_port();
        (host.host.eq_ignore_ascii_case(origin.host) && same_port)
            || (is_loopback(origin.host) && is_loopback(host.host))
    }

    fn lists(&self, origin: &str, parsed: Option<Origin<'_>>) -> bool {
        let canonical = parsed.map_or_else(|| origin.to_owned(), |origin| origin.canonical());
        self.listed.contains(&canonical)
    }
}

#[derive(Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    /// Empty for pages from files.
    host: &'a str,
    /// The default port of the scheme if none is written.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Result<Self, NotAnOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(WRONG_FORM)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return Err(WRONG_FORM);
        }
        let mut origin = Self { scheme, host: "", port: None };
        if authority.is_empty() && origin.is_scheme(&["file"]) {
            return Ok(origin);
        }
        if !authority.is_ascii() {
            return Err(NOT_ASCII);
        }
        let authority = Authority::parse(authority).map_err(|_| WRONG_FORM)?;
        if authority.host.contains(['*', '%']) {
            return Err(WRONG_FORM);
        }
        origin.host = authority.host;
        origin.port = authority.port.or_else(|| origin.default_port());
        Ok(origin)
    }

    fn is_scheme(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.scheme.eq_ignore_ascii_case(name))
    }

    fn default_port(&self) -> Option<u16> {
        if self.is_scheme(&["http", "ws"]) {
            Some(80)
        } else if self.is_scheme(&["https", "wss"]) {
            Some(443)
        } else {
            None
        }
    }

    /// One text for all ways to write it: in lower case, with its port, and with an address in its shortest
    /// form.
    fn canonical(&self) -> String {
        let Self { scheme, host, port } = *self;
        let host =
            Authority { host, port }.ipv6().map_or_else(|| host.to_owned(), |addr| format!("[{addr}]"));
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{scheme}://{host}{port}").to_ascii_lowercase()
    }
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
            assert!(list.add(wrong).is_err(), "{wrong}");
        }
        list.add("*").unwrap();
        assert!(list.allow("http://anything", None));
    }

    #[test]
    fn what_no_page_can_be_of_is_not_listed() {
        let mut list = AllowedOrigins::default();
        for wrong in [
            "https://a?x",
            "https://a#x",
            "https://a/?x",
            "https://a//",
            "https://caf\u{e9}.example",
            "https://a\u{7f}",
            "https://a b",
            "https://a,b c",
            "https://u@a",
            "https://%61",
            "http://[::1",
            "http://[::1]x",
            "http://[::x]",
            "http://a:65536",
            "http://a:1:2",
            "://a",
            "1http://a",
            "file://host*",
            // The origin of a page that opens a WebSocket is http or https.
            "ws://a",
            "wss://a",
        ] {
            assert!(list.add(wrong).is_err(), "{wrong}");
        }
        assert_eq!(list, AllowedOrigins::default(), "nothing of it was listed");
        assert!(
            list.add("https://caf\u{e9}.example").is_err_and(|error| error.to_string().contains("ASCII"))
        );
        assert!(list.add("wss://a").is_err_and(|error| error.to_string().contains("https")));
    }

    #[test]
    fn white_space_around_a_listed_origin_and_the_form_of_an_address_mean_nothing() {
        let mut list = AllowedOrigins::default();
        for listed in [" https://a.example\n", "\thttps://b.example/ ", "http://[2001:DB8:0:0::1]:80"] {
            list.add(listed).unwrap();
        }
        for origin in ["https://a.example", "https://b.example", "http://[2001:db8::1]"] {
            assert!(list.allow(origin, None), "{origin}");
        }
    }

    #[test]
    fn pages_from_files_are_null_or_say_so() {
        let list = |origin| {
            let mut list = AllowedOrigins::default();
            list.add(origin).unwrap();
            list
        };
        // For the same page, Chromium sends null in a request and file:// in a WebSocket handshake.
        let null = list("null");
        assert!(null.allow("null", None) && null.allow("file://", None));
        for file in ["file://", "file:///", "FILE://"] {
            let file = list(file);
            assert!(file.allow("file://", None) && !file.allow("null", None));
            assert!(!file.allow("file://host", None) && !file.allow("files://", None));
        }
        assert!(!AllowedOrigins::default().allow("file://", Some("localhost")));
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
