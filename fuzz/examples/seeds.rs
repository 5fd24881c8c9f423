//! Writes inputs to begin with, made by hand if a fuzzer would take long to find them: `seeds FOLDER` creates
//! `FOLDER/TARGET/seed-N`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

const UPGRADE: &str = "GET /api/ws/a%20b?last_event_id=message-00001 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: polecat.v1\r\n\r\n";

const REQUESTS: [&str; 9] = [
    UPGRADE,
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /x?y=1+2%20 HTTP/1.1\r\nHost: a:80\r\nConnection: close\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00005;a=\"b\\\"c\";d\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\nExpect: 100-continue\r\n\r\nabc",
    "\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\n\r\n",
    "GET http://b.example:81/p?q HTTP/1.1\r\nHost: a\r\nX-Y:\té z \r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
];

const TEXTS: [&str; 8] = [
    r#"{"type":"message","author":"a","content":"\u00e9\n","lane":null,"provider":"p","token_count":"12","id":"x","idempotency_key":"k"}"#,
    r#"{"type":"ping","author":5,"id":1e999}"#,
    r#"{"channel_id":"a","author":"b","content":"c","lane":"d","provider":null,"token_count":3.0}"#,
    r#"{"type":"kind","payload":{"a":[1,2.50,{"b":null}]},"correlation_id":"c"}"#,
    r#"{"type":"kind","payload":{},"payload":{"a":1e2}}"#,
    "limit=10&after=5&before=%31",
    "a%20b%C3%A9+c",
    "message-00017",
];

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(len) if len < 126 => bytes.push(0x80 | len),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn talks() -> Vec<Vec<u8>> {
    let text = "grüße, 世界 🦦".as_bytes();
    vec![
        frame(0x81, text),
        [frame(0x01, &text[..3]), frame(0x89, b"ping"), frame(0x00, &text[3..9]), frame(0x80, &text[9..])]
            .concat(),
        [frame(0x82, &[7; 200]), frame(0x8A, b""), frame(0x88, b"\x03\xe8bye")].concat(),
        frame(0x88, b""),
        frame(0x88, b"\x03\xf6"),
        frame(0x88, b"\x03\xed"),
        frame(0x81, b"ab\xc3("),
        [frame(0x01, b"\xf0\x9f"), frame(0x80, b"\xa6")].concat(),
        vec![0x82, 0xFE, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5],
        vec![0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 9],
        vec![0x81, 0x01, b'a'],
        vec![0xC1, 0x80],
    ]
}

/// Steps of `connection`: an option, then pairs.
fn programs() -> Vec<Vec<u8>> {
    let publish = [0x06, 10, 0x0F, 0, 0x0D, 10];
    let mut programs = Vec::new();
    for which in [0, 1, 2, 3, 7, 31, 35, 67, 99] {
        for open in 0..5 {
            let mut program = vec![which, 0x06, open, 0x16, 2, 0x26, 5, 0x0F, 0];
            program.extend(publish);
            program.extend([0x16, 10, 0x26, 7, 0x26, 8, 0x0D, 255, 0x13, 2, b'h', b'i', 0x0F, 0]);
            program.extend([
                0x15, 3, 0x88, 3, 232, 0x0B, 4, 0x0C, 3, 0x0D, 100, 0x26, 6, 0x26, 9, 0x0C, 24, 0x0D, 50,
            ]);
            programs.push(program);
        }
    }
    programs
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned());
    let prefixed = |stream: Vec<u8>| [&[0, 3, 1, 2][..], &stream].concat();
    let limited = |stream: Vec<u8>| [&[5, 0, 0, 0][..], &stream].concat();
    let bytes = |text: &&str| text.as_bytes().to_vec();
    let requests: Vec<Vec<u8>> = REQUESTS.iter().map(bytes).collect();
    for (name, seeds) in [
        (
            "request",
            [
                requests.iter().cloned().map(prefixed).collect(),
                requests.into_iter().map(limited).collect::<Vec<_>>(),
            ]
            .concat(),
        ),
        ("frames", talks()),
        ("messages", talks().into_iter().map(limited).collect()),
        ("json", TEXTS.iter().map(bytes).collect()),
        ("connection", programs()),
    ] {
        let folder = Path::new(&folder).join(name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
