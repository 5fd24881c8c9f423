//! Everything that the server has sent on a connection, followed byte by byte: whether it is a WebSocket by
//! now, and whether a Close has begun.

/// The beginning of the response to a successful handshake.
const UPGRADE: &[u8] = b"HTTP/1.1 101 ";

/// The end of its head.
const HEAD_END: &[u8] = b"\r\n\r\n";

const CLOSE_HEAD: u8 = 0x88;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// This many bytes of [`UPGRADE`] have just been sent.
    Http(usize),
    /// Within the head of that response, after this many bytes of its end.
    Head(usize),
    /// Within a frame's header: a position that ends at 10 for headers of all lengths, and the payload length
    /// so far.
    Frame(u64, u64),
    /// This many bytes of a frame are still to come.
    Payload(u64),
    /// Within the Close.
    Close,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Outflow(At);

impl Outflow {
    pub(crate) const fn new() -> Self {
        Self(At::Http(0))
    }

    pub(crate) const fn is_websocket(self) -> bool {
        !matches!(self.0, At::Http(_))
    }

    pub(crate) fn is_closing(self) -> bool {
        self.0 == At::Close
    }

    /// Takes in the next bytes that were sent.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.0 = match self.0 {
                At::Http(len) if byte != UPGRADE[len] => At::Http(usize::from(byte == UPGRADE[0])),
                At::Http(len) if len + 1 == UPGRADE.len() => At::Head(0),
                At::Http(len) => At::Http(len + 1),
                At::Head(len) if byte != HEAD_END[len] => At::Head(usize::from(byte == HEAD_END[0])),
                At::Head(len) if len + 1 == HEAD_END.len() => At::Frame(0, 0),
                At::Head(len) => At::Head(len + 1),
                At::Frame(0, _) if byte == CLOSE_HEAD => At::Close,
                At::Frame(0, _) => At::Frame(1, 0),
                // Nothing is masked: 2, 4 or 10 bytes.
                At::Frame(1, _) if byte == 126 => At::Frame(8, 0),
                At::Frame(1, _) if byte == 127 => At::Frame(2, 0),
                At::Frame(1, _) => payload(u64::from(byte)),
                At::Frame(9, len) => payload(len << 8 | u64::from(byte)),
                At::Frame(place, len) => At::Frame(place + 1, len << 8 | u64::from(byte)),
                At::Payload(left) => {
                    let skipped = left.min(1 + rest.len() as u64);
                    bytes = &rest[usize::try_from(skipped).unwrap() - 1..];
                    payload(left - skipped)
                }
                At::Close => return,
            };
        }
    }
}

const fn payload(left: u64) -> At {
    if left == 0 { At::Frame(0, 0) } else { At::Payload(left) }
}

#[test]
fn a_close_is_found_behind_frames_of_all_lengths_wherever_it_is_cut() {
    let mut sent = b"HTTP/1.1 404 Not Found\r\n\r\nHHTTP/1.1 101 Switching\r\nA: b\r\n\r\n".to_vec();
    for (head, len) in [(&[0x81, 0][..], 0), (&[0x81, 125], 125), (&[0x81, 126, 1, 0], 256)] {
        sent.extend_from_slice(head);
        sent.extend(std::iter::repeat_n(CLOSE_HEAD, len));
    }
    sent.extend_from_slice(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1]);
    sent.extend(std::iter::repeat_n(CLOSE_HEAD, 65_537));
    for size in [1, 2, 7, sent.len()] {
        let mut outflow = Outflow::new();
        sent.chunks(size).for_each(|chunk| outflow.take(chunk));
        assert!(outflow.is_websocket() && !outflow.is_closing());
        outflow.take(&[CLOSE_HEAD]);
        assert!(outflow.is_closing());
    }
}
