//! A stream in pieces, as a network may deliver it. The first bytes of the input determine the pieces, so
//! that the fuzzer can search for the split that matters.

/// Bytes at the front of an input that determine how the rest is split.
pub const SEED_BYTES: usize = 3;

/// The lengths of the pieces of a stream.
#[derive(Debug)]
pub struct Splits {
    random: fastrand::Rng,
    piece_bytes_max: usize,
}

impl Splits {
    /// Pieces determined by `seed`: of one byte each, or of random lengths up to a bound.
    #[must_use]
    pub fn new(seed: [u8; SEED_BYTES]) -> Self {
        let [bound, high, low] = seed;
        let piece_bytes_max = [1, 2, 3, 5, 8, 16, 64, 1024][usize::from(bound % 8)];
        Self { random: fastrand::Rng::with_seed(u64::from(high) << 8 | u64::from(low)), piece_bytes_max }
    }

    /// Splits `stream`.
    pub fn cut<'a>(&mut self, stream: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let len = self.random.usize(1..=self.piece_bytes_max).min(rest.len());
            let (piece, behind) = rest.split_at(len);
            pieces.push(piece);
            rest = behind;
        }
        pieces
    }
}
