//! A host and a port, as in URIs, the `Host` header and origins (RFC 3986 section 3.2).

use core::net::Ipv6Addr;

/// A host and an optional port, without a user (RFC 9110 sections 4.2 and 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in its brackets; never empty.
    pub host: &'a str,
    /// `None` also if nothing follows the colon.
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityError {
    /// The host is empty, or has a character that no host can have.
    Host,
    /// The port is not a number up to 65535.
    Port,
}

impl<'a> Authority<'a> {
    /// Splits a text into host and port.
    ///
    /// # Errors
    /// The part that is wrong; the host, if both are.
    pub fn parse(text: &'a str) -> Result<Self, AuthorityError> {
        let is_bracketed = text.starts_with('[');
        let end = if is_bracketed { text.find(']').map(|end| end + 1) } else { text.find(':') };
        let (host, port) = text.split_at(end.unwrap_or(text.len()));
        let authority = Self { host, port: None };
        let is_host = if is_bracketed { authority.ipv6().is_some() } else { is_registered_name(host) };
        if !is_host {
            return Err(AuthorityError::Host);
        }
        match port.strip_prefix(':') {
            Some("") => Ok(authority),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = digits.parse().map_err(|_| AuthorityError::Port)?;
                Ok(Self { host, port: Some(port) })
            }
            None if port.is_empty() => Ok(authority),
            _ => Err(AuthorityError::Port),
        }
    }

    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
    }
}

/// A non-empty `reg-name` of RFC 3986, which includes IPv4 addresses.
fn is_registered_name(host: &str) -> bool {
    let bytes = host.as_bytes();
    let legal = |(at, byte): (usize, &u8)| match byte {
        b'%' => matches!(bytes.get(at + 1..at + 3), Some(hex) if hex.iter().all(u8::is_ascii_hexdigit)),
        b'-' | b'.' | b'_' | b'~' => true,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
        _ => byte.is_ascii_alphanumeric(),
    };
    !bytes.is_empty() && bytes.iter().enumerate().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (good, host, port) in [
            ("a", "a", None),
            ("a:1", "a", Some(1)),
            ("a:", "a", None),
            ("127.0.0.1:8010", "127.0.0.1", Some(8010)),
            ("[::1]", "[::1]", None),
            ("[::1]:65535", "[::1]", Some(65_535)),
            ("a_b.c-d~e", "a_b.c-d~e", None),
            ("%41", "%41", None),
            ("x,y", "x,y", None),
        ] {
            assert_eq!(Authority::parse(good), Ok(Authority { host, port }), "{good}");
        }
        for bad in [
            "",
            ":80",
            "[::1",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "a b",
            "u@a",
            "a/b",
            "%4",
            "%zz",
            "a,b c",
            "é",
            "::1",
        ] {
            assert_eq!(Authority::parse(bad), Err(AuthorityError::Host), "{bad}");
        }
        for bad in ["a:b", "a:65536", "a:+1", "a:1:2", "[::1]x", "[::1]:x"] {
            assert_eq!(Authority::parse(bad), Err(AuthorityError::Port), "{bad}");
        }
    }
}
