//! The server's side of the WebSocket handshake (RFC 6455 section 4.2).

use tungstenite::handshake::derive_accept_key;

use super::extension::{Deflate, EXTENSIONS_FIELD};
use crate::wire::http::field::{Fields, elements, is_token};
use crate::wire::http::request::{Method, Request, Version};
use crate::wire::http::response::{push_field, push_fields, push_status};
use crate::wire::http::status::{Refusal, Status};

/// The fields of a 426: what to upgrade to, and in which version.
pub const UPGRADE_REQUIRED_FIELDS: &[(&str, &str)] =
    &[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")];

/// A legal request to become a WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade<'b> {
    /// The client's key: base64 of 16 bytes.
    pub key: &'b str,
    fields: Fields<'b>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// It does not ask for one: `Upgrade` does not name `websocket`, or `Connection` does not name `upgrade`.
    /// On a path for WebSockets only, this is 426.
    NotAnUpgrade,
    /// It asks for one incorrectly.
    Refused(Refusal),
}

impl UpgradeError {
    /// The status for a path that is for WebSockets only.
    pub const fn status(&self) -> Status {
        match self {
            Self::NotAnUpgrade => Status::UPGRADE_REQUIRED,
            Self::Refused(refusal) => refusal.status,
        }
    }

    /// The reason, for the peer.
    pub const fn detail(&self) -> &'static str {
        match self {
            Self::NotAnUpgrade => "this is a WebSocket endpoint",
            Self::Refused(refusal) => refusal.detail,
        }
    }

    /// The fields that the answer needs for its status.
    pub fn fields(&self) -> &'static [(&'static str, &'static str)] {
        match self.status() {
            Status::UPGRADE_REQUIRED => UPGRADE_REQUIRED_FIELDS,
            Status::METHOD_NOT_ALLOWED => &[("Allow", "GET")],
            _ => &[],
        }
    }

    const fn refused(status: Status, detail: &'static str) -> Self {
        Self::Refused(Refusal::new(status, detail))
    }
}

/// Checks a request to become a WebSocket.
///
/// # Errors
/// [`UpgradeError::NotAnUpgrade`] for any other request. Else a refusal: 405 for a method other than GET; 426
/// for a protocol version other than 13, or none; 400 for HTTP/1.0, a body, a missing, repeated or invalid
/// key, or a subprotocol that is not a token.
pub fn parse<'b>(request: &Request<'b>) -> Result<Upgrade<'b>, UpgradeError> {
    if !request.has_token("upgrade", "websocket") || !request.has_token("connection", "upgrade") {
        return Err(UpgradeError::NotAnUpgrade);
    }
    let bad = |detail| Err(UpgradeError::refused(Status::BAD_REQUEST, detail));
    if request.method != Method::Get {
        return Err(UpgradeError::refused(Status::METHOD_NOT_ALLOWED, "a WebSocket handshake must use GET"));
    }
    if request.version != Version::Http11 {
        return bad("a WebSocket handshake must use HTTP/1.1");
    }
    if !request.body.is_empty() {
        return bad("a WebSocket handshake must not have a body");
    }
    if only(request.header_values("sec-websocket-version")) != Some(b"13") {
        return Err(UpgradeError::refused(
            Status::UPGRADE_REQUIRED,
            "only WebSocket version 13 is supported",
        ));
    }
    let Some(key) = only(request.header_values("sec-websocket-key")).and_then(as_key) else {
        return bad("invalid Sec-WebSocket-Key");
    };
    let upgrade = Upgrade { key, fields: request.fields };
    if !upgrade.protocols().all(is_token) {
        return bad("invalid Sec-WebSocket-Protocol");
    }
    Ok(upgrade)
}

impl<'b> Upgrade<'b> {
    /// Whether the client offers that subprotocol; case matters.
    pub fn offers(&self, protocol: &str) -> bool {
        self.protocols().any(|offered| offered == protocol.as_bytes())
    }

    /// The compression that was offered and can be accepted.
    pub fn deflate(&self) -> Option<Deflate> {
        Deflate::accept(self.fields.values("sec-websocket-extensions"))
    }

    /// Appends the 101 that makes the connection a WebSocket, with `extra` fields (those whose values have
    /// control characters are left out). A `protocol` that the client does not [offer](Self::offers) is left
    /// out. `deflate` comes from [`Self::deflate`], and `date` from
    /// [`crate::wire::http::response::http_date`].
    pub fn write_switching(
        &self,
        extra: &[(&str, &str)],
        protocol: Option<&str>,
        deflate: Option<&Deflate>,
        date: &str,
        out: &mut Vec<u8>,
    ) {
        push_status(Status::SWITCHING_PROTOCOLS, out);
        push_field("Date", date, out);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        push_field("Sec-WebSocket-Accept", &derive_accept_key(self.key.as_bytes()), out);
        if let Some(protocol) = protocol {
            debug_assert!(self.offers(protocol), "{protocol:?} is not offered");
            if self.offers(protocol) {
                push_field("Sec-WebSocket-Protocol", protocol, out);
            }
        }
        if let Some(deflate) = deflate {
            push_field(EXTENSIONS_FIELD, &deflate.answer(), out);
        }
        push_fields(extra, out);
        out.extend_from_slice(b"\r\n");
    }

    fn protocols(&self) -> impl Iterator<Item = &'b [u8]> + use<'b, '_> {
        let values = self.fields.values("sec-websocket-protocol");
        values.flat_map(elements).filter(|element| !element.is_empty())
    }
}

/// The only item; `None` if there are none or several.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// A key that is base64 of exactly 16 bytes: 22 digits and `==`. The four surplus bits of the last digit may
/// be anything (RFC 4648 section 3.5).
fn as_key(value: &[u8]) -> Option<&str> {
    let digits = value.strip_suffix(b"==")?;
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if digits.len() == 22 && digits.iter().all(is_digit) { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests;
