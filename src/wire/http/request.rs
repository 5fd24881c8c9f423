//! A request as the routes see it.

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

/// The version of the protocol that the request was sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A whole request, legal by RFC 9110 and 9112, borrowed from the bytes it came in.
#[derive(Debug, Clone, Copy)]
pub struct Request<'b> {
    pub method: Method<'b>,
    /// The path as it was sent, not decoded: begins with `/`, or is `*` for an
    /// OPTIONS that means the server.
    pub path: &'b str,
    /// What stood behind the first `?`, not decoded.
    pub query: Option<&'b str>,
    pub version: Version,
    /// Whether the peer will send another request on this connection.
    pub keep_alive: bool,
    /// The host and port that the request is for: the authority of an absolute
    /// target, else `Host`. Only HTTP/1.0 may name none.
    pub host: Option<&'b str>,
    /// The body, without its transfer coding.
    pub body: &'b [u8],
    pub(crate) fields: Fields<'b>,
}

impl<'b> Request<'b> {
    /// The only or first value of that header field, in whatever case its name.
    /// It holds no control character but tabs. `None` where there is no such
    /// field, or its value is no UTF-8.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.fields.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all header fields of that name, in order.
    pub fn header_values<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.fields.values(name)
    }

    /// Whether the comma-separated lists in the fields of that name have the
    /// token, in whatever case.
    pub fn has_token(&self, header: &str, token: &str) -> bool {
        self.fields.has_token(header, token)
    }

    /// The first value of that name in the query, decoded: `+` is a space, and
    /// what is no UTF-8 becomes U+FFFD. It may hold control characters.
    pub fn query_value(&self, name: &str) -> Option<Cow<'b, str>> {
        self.query.and_then(|query| target::query_value(query, name))
    }
}
