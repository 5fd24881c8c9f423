//! A gzip body (RFC 1952) that is made part by part, without a compressor of its own. Each part is compressed
//! by itself, so only a checksum is kept between two parts.

use flate2::Crc;

use crate::wire::deflate::{Deflater, TAIL, Window};

/// No name, no time, the fastest compression, an unknown system.
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255];

/// An empty block that is the last.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// The most bytes of an uncompressed block.
const STORED_BYTES_MAX: usize = 0xFFFF;

/// An unfinished body.
#[derive(Debug, Default)]
pub struct Gzip {
    sum: Crc,
}

impl Gzip {
    /// Appends `part`, compressed, to `out`. The first part is preceded by the header.
    pub fn write(&mut self, deflater: &mut Deflater, part: &[u8], out: &mut Vec<u8>) {
        if self.sum.amount() == 0 {
            out.extend_from_slice(&HEADER);
        }
        self.sum.update(part);
        if let Some(compressed) = deflater.deflate(Window::Full, part) {
            out.extend_from_slice(compressed);
            out.extend_from_slice(&TAIL);
            return;
        }
        for block in part.chunks(STORED_BYTES_MAX) {
            let len = u16::try_from(block.len()).unwrap_or_default();
            out.push(0);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&(!len).to_le_bytes());
            out.extend_from_slice(block);
        }
    }

    /// Appends the end. At least one part must have had bytes.
    pub fn finish(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&LAST_BLOCK);
        out.extend_from_slice(&self.sum.sum().to_le_bytes());
        out.extend_from_slice(&self.sum.amount().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn parts_come_to_one_body() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise = |len: usize| std::iter::repeat_with(|| random.u8(..)).take(len).collect::<Vec<_>>();
        let text = b"{\"messages\":[".repeat(5_000);
        let parts = [&text[..], b"x", b"", &[b'a'; 70_000], b"]}"].map(<[u8]>::to_vec);
        let parts = [&parts[..], &[3, 65_535, 65_536, 200_000].map(noise)].concat();
        for order in [parts.clone(), parts.into_iter().rev().collect()] {
            let mut deflater = Deflater::default();
            let (mut gzip, mut out) = (Gzip::default(), Vec::new());
            order.iter().for_each(|part| gzip.write(&mut deflater, part, &mut out));
            gzip.finish(&mut out);
            let mut read = Vec::new();
            GzDecoder::new(&out[..]).read_to_end(&mut read).unwrap();
            assert!(read == order.concat(), "{} bytes of {}", read.len(), order.concat().len());
        }
    }
}
