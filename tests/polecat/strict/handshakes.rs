//! Requests to become a WebSocket: RFC 6455, sections 4.1 and 4.2. PROTOCOL.md,
//! "11. WebSocket rules".

use super::After::{Closed, Open, Upgraded};
use super::Case;

pub(crate) const CASES: &[Case] = &[
    ("a handshake", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("a handshake for a channel", b"GET /api/ws/room HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("a handshake for the echo", b"GET /api/ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("a handshake in other cases", b"GET /ws HTTP/1.1|host: a|UPGRADE: WebSocket|connection: uPGRADE|sec-websocket-version: 13|SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("an upgrade among others", b"GET /ws HTTP/1.1|Host: a|Upgrade: h2c, websocket|Connection: keep-alive, Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("an upgrade in several fields", b"GET /ws HTTP/1.1|Host: a|Upgrade: h2c|Upgrade: websocket|Connection: keep-alive|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("offers that are not taken", b"GET /api/ws/r HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Protocol: chat, x|Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits||", &[101], Upgraded),
    ("an absolute target to upgrade", b"GET http://a/ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("a channel's name in escapes", b"GET /api/ws/%C3%A9%2F%25 HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    ("a frame behind the handshake", b"GET /api/ws/room HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||\x8a\x80\x01\x02\x03\x04", &[101], Upgraded),
    // Without an upgrade.
    ("no upgrade", b"GET /ws HTTP/1.1|Host: a||", &[426], Open),
    ("no upgrade for a channel", b"GET /api/ws/room HTTP/1.1|Host: a||", &[426], Open),
    ("HEAD for an upgrade", b"HEAD /ws HTTP/1.1|Host: a||", &[426], Open),
    ("no Connection", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("no Upgrade", b"GET /ws HTTP/1.1|Host: a|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("an upgrade to HTTP/2", b"GET /ws HTTP/1.1|Host: a|Upgrade: h2c|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("an upgrade to something like it", b"GET /ws HTTP/1.1|Host: a|Upgrade: websockets|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    // Versions.
    ("version 8", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 8|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("version 14", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 14|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("version 013", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 013|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    ("no version", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[426], Open),
    // Keys.
    ("no key", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13||", &[400], Open),
    ("an empty key", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key:||", &[400], Open),
    ("two keys", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("a key of 15 bytes", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j||", &[400], Open),
    ("a key of 17 bytes", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWU=||", &[400], Open),
    ("a key without its padding", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ||", &[400], Open),
    ("a key of another alphabet", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2-_ZQ==||", &[400], Open),
    ("a key with a space", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhb BsZSBub25jZQ==||", &[400], Open),
    // Names that no browser could request: it takes them for the folder, or the one above it.
    ("a channel named .", b"GET /api/ws/. HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("a channel named ..", b"GET /api/ws/.. HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("the same in escapes", b"GET /api/ws/%2e%2E HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("a channel named ...", b"GET /api/ws/... HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[101], Upgraded),
    // Other mistakes.
    ("a handshake in HTTP/1.0", b"GET /ws HTTP/1.0|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Closed),
    ("a handshake by POST", b"POST /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[405], Open),
    ("a handshake with a body", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Content-Length: 2||{}", &[400], Open),
    ("a handshake without Host", b"GET /ws HTTP/1.1|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Closed),
    ("a handshake at no path", b"GET /nothing HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[404], Open),
    ("a handshake at no channel", b"GET /api/ws/ HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[404], Open),
    ("a handshake below a channel", b"GET /api/ws/a/b HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[404], Open),
    ("a name that is no UTF-8", b"GET /api/ws/%FF HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("a name with a control character", b"GET /api/ws/a%0Ab HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("a name with half an escape", b"GET /api/ws/a%4 HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||", &[400], Open),
    ("an offer that is no token", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Protocol: a b||", &[400], Open),
    ("a foreign page", b"GET /ws HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Origin: http://b||", &[403], Open),
];
