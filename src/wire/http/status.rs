//! Status codes, and the refusal of a request.

use crate::base::limit::Limit;

/// A status code that polecat sends (RFC 9110 section 15; 426, 429 and 431 by RFC 9110 and RFC 6585). These
/// constants are all that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

/// Writes the constants and the table of reasons from one list.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every status there is, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason phrase, as RFC 9110 names the code.
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)*
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    /// 101: from here on, the connection is a WebSocket.
    SWITCHING_PROTOCOLS = 101, "Switching Protocols";
    OK = 200, "OK";
    /// 304: the browser has the page already; there is no body.
    NOT_MODIFIED = 304, "Not Modified";
    BAD_REQUEST = 400, "Bad Request";
    FORBIDDEN = 403, "Forbidden";
    NOT_FOUND = 404, "Not Found";
    /// 405: needs an `Allow` field.
    METHOD_NOT_ALLOWED = 405, "Method Not Allowed";
    REQUEST_TIMEOUT = 408, "Request Timeout";
    LENGTH_REQUIRED = 411, "Length Required";
    CONTENT_TOO_LARGE = 413, "Content Too Large";
    URI_TOO_LONG = 414, "URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported Media Type";
    EXPECTATION_FAILED = 417, "Expectation Failed";
    UNPROCESSABLE_CONTENT = 422, "Unprocessable Content";
    /// 426: needs the fields of [`crate::wire::websocket::handshake::UPGRADE_REQUIRED_FIELDS`].
    UPGRADE_REQUIRED = 426, "Upgrade Required";
    TOO_MANY_REQUESTS = 429, "Too Many Requests";
    HEADER_FIELDS_TOO_LARGE = 431, "Request Header Fields Too Large";
    NOT_IMPLEMENTED = 501, "Not Implemented";
    SERVICE_UNAVAILABLE = 503, "Service Unavailable";
    VERSION_NOT_SUPPORTED = 505, "HTTP Version Not Supported";
}

impl Status {
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Whether a response of this status never has a body (RFC 9110 section 6.4.1). It then has no
    /// `Content-Length` either (section 8.6).
    pub const fn is_bodiless(self) -> bool {
        self.0 < 200 || self.0 == Self::NOT_MODIFIED.0
    }
}

/// A request that cannot be answered, through a fault of the peer. Its end is no longer known, so the
/// connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    /// Why, for the peer: ASCII without a quote or a backslash.
    pub detail: &'static str,
    /// The limit that the request exceeds, if that is the reason.
    pub limit: Option<Limit>,
}

impl Refusal {
    pub const fn new(status: Status, detail: &'static str) -> Self {
        Self { status, detail, limit: None }
    }

    pub const fn over(limit: Limit, status: Status, detail: &'static str) -> Self {
        Self { status, detail, limit: Some(limit) }
    }

    pub(crate) const fn content_too_large(limit: Limit, detail: &'static str) -> Self {
        Self::over(limit, Status::CONTENT_TOO_LARGE, detail)
    }

    pub(crate) const fn fields_too_large(limit: Limit, detail: &'static str) -> Self {
        Self::over(limit, Status::HEADER_FIELDS_TOO_LARGE, detail)
    }

    pub(crate) const fn bad(detail: &'static str) -> Self {
        Self::new(Status::BAD_REQUEST, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_reason() {
        assert_eq!(Status::ALL.len(), 20);
        assert!(Status::ALL.is_sorted());
        for status in Status::ALL {
            assert!(!status.reason().is_empty(), "{}", status.code());
        }
    }
}
