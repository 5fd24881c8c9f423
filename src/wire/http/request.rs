//! A request as the routes get it.

use std::borrow::Cow;

use super::field::Fields;
use super::target;

/// A request method. Methods are case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'b> {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Other(&'b str),
}

impl<'b> Method<'b> {
    pub(crate) fn named(name: &'b str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "PATCH" => Self::Patch,
            "OPTIONS" => Self::Options,
            _ => Self::Other(name),
        }
    }

    pub const fn as_str(self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::Other(name) => name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A complete request, legal by RFC 9110 and 9112, borrowed from its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'b> {
    pub method: Method<'b>,
    /// The path as it was sent, not decoded. It begins with `/`, or is `*` for an OPTIONS request about the
    /// server itself.
    pub path: &'b str,
    /// The part behind the first `?`, not decoded.
    pub query: Option<&'b str>,
    pub version: Version,
    /// Whether the peer may send another request on this connection.
    pub keep_alive: bool,
    /// The host and port that the request is for: the authority of an absolute target, else `Host`. Only in
    /// HTTP/1.0 can it be absent.
    pub host: Option<&'b str>,
    /// The body, without its transfer coding.
    pub body: &'b [u8],
    pub(crate) fields: Fields<'b>,
}

impl<'b> Request<'b> {
    /// The only or first value of that header field; the case of the name is ignored. The value has no
    /// control characters except tabs. `None` if there is no such field, or its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.fields.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all header fields of that name, in order.
    pub fn header_values<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.fields.values(name)
    }

    /// Whether the comma-separated lists in the fields of that name contain the token, ignoring case.
    pub fn has_token(&self, header: &str, token: &str) -> bool {
        self.fields.has_token(header, token)
    }

    /// All values of that name in the query, decoded as in [`Self::query_value`].
    pub fn query_values<'n>(&self, name: &'n str) -> impl Iterator<Item = Cow<'b, str>> + use<'b, 'n> {
        target::query_values(self.query.unwrap_or_default(), name)
    }

    /// The first value of that name in the query, decoded: `+` is a space, and invalid UTF-8 becomes U+FFFD.
    /// It can have control characters.
    pub fn query_value(&self, name: &str) -> Option<Cow<'b, str>> {
        target::query_values(self.query?, name).next()
    }
}
