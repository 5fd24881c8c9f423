//! Clients that each break one rule, and know the response that they must get.

use crate::client::{Behaviour, Context, Link, Mood, Wish};
use crate::model::Ledger;
use crate::wire::{CLOSE, PING, TEXT, close_parts, push_frame, request, take_frame, take_response, upgrade};

/// The expected response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sentence {
    Status(u16),
    Close(u16),
}

pub(crate) struct Breaker {
    /// The rule that was broken, and the expected response.
    crime: &'static str,
    sentence: Sentence,
    is_open: bool,
    is_served: bool,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { crime: "none", sentence: Sentence::Status(0), is_open: false, is_served: true }
    }

    /// A request that is refused.
    fn refused(&mut self, context: &mut Context<'_>) -> Vec<u8> {
        let get = |fields: &str| format!("GET /api/health HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let limits = &context.options.config.limits;
        let (crime, status, bytes) = match context.random.u32(..13) {
            0 => ("no Host", 400, get("")),
            1 => ("a field name with a space", 400, get("Host: p\r\nBad name: x\r\n")),
            2 => (
                "a target that is too long",
                414,
                request("GET", &"/x".repeat(limits.target_bytes_max), "c", "", ""),
            ),
            3 => {
                let field = format!("X: {}\r\n", "y".repeat(limits.head_bytes_max));
                ("a head that is too long", 431, request("GET", "/", "c", &field, ""))
            }
            4 => {
                let field = format!("Host: p\r\nContent-Length: {}\r\n", limits.body_bytes_max + 1);
                (
                    "a body that is too long",
                    413,
                    format!("POST /api/messages HTTP/1.1\r\n{field}\r\n").into_bytes(),
                )
            }
            5 => ("a coding", 501, get("Host: p\r\nTransfer-Encoding: gzip, chunked\r\n")),
            6 => ("another version", 505, b"GET / HTTP/2.0\r\nHost: p\r\n\r\n".to_vec()),
            7 => ("an expectation", 417, get("Host: p\r\nExpect: miracles\r\n")),
            8 => (
                "too many fields",
                431,
                get(&format!("Host: p\r\n{}", "A: b\r\n".repeat(limits.head_fields_max))),
            ),
            9 => {
                let extension = format!("1;{}\r\nx\r\n", "e".repeat(limits.chunk_extra_bytes_max.max(1)));
                ("a chunk extension that is too long", 413, post_chunks(&extension))
            }
            10 => {
                let trailer = format!("0\r\nA: {}\r\n\r\n", "b".repeat(limits.chunk_extra_bytes_max));
                ("a trailer that is too long", 431, post_chunks(&trailer))
            }
            11 => ("LF alone", 400, b"GET / HTTP/1.1\nHost: p\n\n".to_vec()),
            _ => ("two lengths", 400, get("Host: p\r\nContent-Length: 1\r\nContent-Length: 2\r\n")),
        };
        (self.crime, self.sentence) = (crime, Sentence::Status(status));
        bytes
    }

    /// A frame that violates RFC 6455, or a token that violates PROTOCOL 5.3.
    fn violation(&mut self, context: &mut Context<'_>) -> Vec<u8> {
        let path = ["/ws", "/api/ws", "/api/ws/c0"][context.random.usize(..3)];
        if context.random.u32(..8) == 0 {
            (self.crime, self.sentence) = ("a short token", Sentence::Close(4400));
            return upgrade("/ws?subscribe_token=short", None);
        }
        let mut bytes = upgrade(path, None);
        let max = context.options.config.limits.message_bytes_max;
        let mask = [1, 2, 3, 4];
        let (crime, code) = match context.random.u32(..9) {
            0 => {
                bytes.extend([0x81, 0x02, b'h', b'i']);
                ("no mask", 1002)
            }
            1 => {
                push_frame(0x40 | TEXT, true, b"x", mask, &mut bytes);
                ("a reserved bit", 1002)
            }
            2 => {
                push_frame(3, true, b"x", mask, &mut bytes);
                ("a reserved opcode", 1002)
            }
            3 => {
                push_frame(PING, false, b"x", mask, &mut bytes);
                ("a ping in fragments", 1002)
            }
            4 => {
                push_frame(0, true, b"x", mask, &mut bytes);
                ("a continuation of nothing", 1002)
            }
            5 => {
                push_frame(CLOSE, true, &[3], mask, &mut bytes);
                ("half a code", 1002)
            }
            6 => {
                push_frame(CLOSE, true, &1005_u16.to_be_bytes(), mask, &mut bytes);
                ("a code that may not be sent", 1002)
            }
            7 => {
                push_frame(TEXT, true, &[0xC3, 0x28], mask, &mut bytes);
                ("text that is no UTF-8", 1007)
            }
            _ => {
                push_frame(TEXT, true, &vec![b'x'; max + 1], mask, &mut bytes);
                ("a message that is too long", 1009)
            }
        };
        (self.crime, self.sentence) = (crime, Sentence::Close(code));
        bytes
    }

    fn serve(&mut self, got: Sentence) {
        // If the handshake was refused, the bytes after it are not a request.
        if self.is_served {
            return;
        }
        assert_eq!(got, self.sentence, "what is due for {}", self.crime);
        self.is_served = true;
    }
}

/// A POST with these chunks as its body.
fn post_chunks(chunks: &str) -> Vec<u8> {
    let fields = "Host: p\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    format!("POST /api/messages HTTP/1.1\r\n{fields}\r\n{chunks}").into_bytes()
}

impl Behaviour for Breaker {
    fn begin(&mut self, context: &mut Context<'_>) -> Option<Link> {
        self.is_served = true;
        if context.mood != Mood::Chaos || context.is_over {
            return None;
        }
        let mut link = context.connect();
        let bytes = if context.random.bool() { self.refused(context) } else { self.violation(context) };
        link.say(&bytes);
        self.is_open = false;
        self.is_served = false;
        Some(link)
    }

    fn hear(&mut self, link: &mut Link, context: &mut Context<'_>) {
        if !self.is_open {
            let Some(response) = take_response(&mut link.inbox, false) else { return };
            self.is_open = response.status == 101 && matches!(self.sentence, Sentence::Close(_));
            if !self.is_open {
                // The connection may have ended before the rule was broken.
                if context.may_refuse(&response, link) {
                    self.is_served = true;
                } else {
                    assert!(response.closes, "the connection ends after {}", self.crime);
                    self.serve(Sentence::Status(response.status));
                }
                return;
            }
        }
        while let Some((opcode, payload)) = take_frame(&mut link.inbox) {
            if opcode == CLOSE {
                let (code, reason) = close_parts(&payload);
                if context.may_close(code, &reason, link) {
                    self.is_served = true;
                } else {
                    self.serve(Sentence::Close(code));
                }
            }
        }
    }

    fn act(&mut self, _: &mut Link, context: &mut Context<'_>) -> Wish {
        if self.is_served && context.random.bool() { Wish::Close } else { Wish::Stay }
    }

    fn ended(&mut self, link: &Link, context: &mut Context<'_>) {
        let is_unread = !link.out.is_empty();
        assert!(
            self.is_served
                || is_unread
                || context.is_draining
                || context.may_end(link)
                || context.may_be_dropped(link),
            "{} was not answered by {:?}",
            self.crime,
            self.sentence
        );
    }

    fn crashed(&mut self) {}

    fn is_content(&self, _: &Ledger) -> bool {
        self.is_served
    }

    fn name(&self) -> String {
        format!("one who broke a rule ({}) and waits for {:?}", self.crime, self.sentence)
    }
}
