//! Random talk, and the same with random damage. It is compared with a model that knows what was sent, and
//! with tungstenite's own `WebSocket`, as in the check of messages.

use polecat::wire::websocket::codec::{self, OpCode};

use crate::checks::messages::{End, Outcome, Said, their_outcome};

const SEED: u64 = 6455;
const MESSAGE_BYTES_MAX: usize = 70_000;

/// The outcome of `stream`, split at the given rising offsets.
fn decode_cut(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> (Vec<Said>, End) {
    let mut start = 0;
    let pieces = cuts.into_iter().chain([stream.len()]).map(|cut| {
        let piece = &stream[start..cut];
        start = cut;
        piece
    });
    let outcome = Outcome::of(pieces, MESSAGE_BYTES_MAX);
    (outcome.said, outcome.end)
}

fn random_cuts(random: &mut fastrand::Rng, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..random.usize(1..8)).map(|_| random.usize(0..=len)).collect();
    cuts.sort_unstable();
    cuts
}

/// A random stream without a fault: its frames, and its messages.
struct Talk {
    frames: Vec<Vec<u8>>,
    said: Vec<Said>,
}

impl Talk {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut talk = Self { frames: Vec::new(), said: Vec::new() };
        for _ in 0..random.usize(1..6) {
            if random.u8(..4) == 0 { talk.control(random) } else { talk.message(random) }
        }
        if random.bool() {
            let code = random.choice([1000, 1001, 1003, 1007, 1011, 1013, 3000, 4400, 4999]).unwrap();
            let reason = characters(random, 20);
            let payload = [&u16::to_be_bytes(code)[..], reason.as_bytes()].concat();
            talk.frame(random, true, OpCode::Close, &payload);
            talk.said.push(Said::Close(Some((code, reason))));
        }
        talk
    }

    fn frame(&mut self, random: &mut fastrand::Rng, fin: bool, opcode: OpCode, payload: &[u8]) {
        let mask = std::array::from_fn(|_| random.u8(..));
        let mut frame = Vec::new();
        codec::write_masked_frame(opcode, payload, mask, &mut frame);
        if !fin {
            frame[0] &= 0x7F;
        }
        self.frames.push(frame);
    }

    fn control(&mut self, random: &mut fastrand::Rng) {
        let payload: Vec<u8> = (0..random.usize(..=125)).map(|_| random.u8(..)).collect();
        let (opcode, said) = if random.bool() {
            (OpCode::Ping, Said::Ping(payload.clone()))
        } else {
            (OpCode::Pong, Said::Pong(payload.clone()))
        };
        self.frame(random, true, opcode, &payload);
        self.said.push(said);
    }

    /// A message in one fragment or in several, with control frames between them.
    fn message(&mut self, random: &mut fastrand::Rng) {
        let len_max = random.choice([0, 1, 5, 60, 125, 130, 300, 2000]).unwrap();
        let (kind, payload, said) = if random.bool() {
            let text = characters(random, len_max);
            (OpCode::Text, text.clone().into_bytes(), Said::Text(text))
        } else {
            let bytes: Vec<u8> = (0..len_max).map(|_| random.u8(..)).collect();
            (OpCode::Binary, bytes.clone(), Said::Binary(bytes))
        };
        let mut cuts = if random.bool() { Vec::new() } else { random_cuts(random, payload.len()) };
        cuts.push(payload.len());
        let last = cuts.len() - 1;
        let mut start = 0;
        for (index, cut) in cuts.into_iter().enumerate() {
            let opcode = if index == 0 { kind } else { OpCode::Continue };
            self.frame(random, index == last, opcode, &payload[start..cut]);
            start = cut;
            if index < last && random.u8(..3) == 0 {
                self.control(random);
            }
        }
        self.said.push(said);
    }
}

/// Random characters of every encoded length, up to `len_max` bytes.
fn characters(random: &mut fastrand::Rng, len_max: usize) -> String {
    let mut text = String::new();
    loop {
        let character = match random.u8(..4) {
            0 => random.char('\u{80}'..='\u{7FF}'),
            1 => random.char('\u{800}'..='\u{FFFF}'),
            2 => random.char('\u{10000}'..),
            _ => random.char(' '..='~'),
        };
        if text.len() + character.len_utf8() > len_max {
            return text;
        }
        text.push(character);
    }
}

#[test]
fn random_talk_is_understood_however_it_is_cut() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..600 {
        let seed = random.get_seed();
        eprintln!("seed {seed}");
        let talk = Talk::random(&mut random);
        let stream = talk.frames.concat();
        let whole = decode_cut(&stream, []);
        let end = if let Some(Said::Close(_)) = talk.said.last() { End::Closed } else { End::Idle };
        assert_eq!(whole, (talk.said.clone(), end));
        assert_eq!(their_outcome(&stream, MESSAGE_BYTES_MAX), (talk.said, None));
        assert_eq!(decode_cut(&stream, 0..stream.len()), whole);
        for _ in 0..5 {
            let cuts = random_cuts(&mut random, stream.len());
            assert_eq!(decode_cut(&stream, cuts), whole);
        }
    }
}

/// Damages a stream in one or a few places, mostly in headers.
fn mutate(random: &mut fastrand::Rng, frames: &mut [Vec<u8>]) {
    for _ in 0..random.usize(1..3) {
        let index = random.usize(..frames.len());
        let other = random.usize(..frames.len());
        let frame = &mut frames[index];
        let place =
            if random.bool() { random.usize(..frame.len().min(4)) } else { random.usize(..frame.len()) };
        match random.u8(..8) {
            0..3 => frame[place] ^= 1 << random.u8(..8),
            3 => frame[place] = random.u8(..),
            4 => frame.insert(place, random.u8(..)),
            5 => frame.truncate(place.max(2)),
            6 => frames.swap(index, other),
            // The same length, in a longer form than it needs.
            _ if frame.len() < 130 => {
                let len = frame[1] & 0x7F;
                frame.splice(1..2, [0x80 | 126, 0, len]);
            }
            _ => frame[1] ^= 0x80,
        }
    }
}

#[test]
fn on_spoiled_streams_tungstenite_agrees_or_is_known_to_be_laxer() {
    let mut random = fastrand::Rng::with_seed(SEED ^ 1);
    let (mut unharmed, mut agreed, mut earlier, mut stricter, mut first_of_two) = (0, 0, 0, 0, 0);
    for _ in 0..6000 {
        let seed = random.get_seed();
        eprintln!("seed {seed}");
        let mut frames = Talk::random(&mut random).frames;
        mutate(&mut random, &mut frames);
        let stream = frames.concat();
        let (our_said, our_end) = decode_cut(&stream, []);
        let cuts = random_cuts(&mut random, stream.len());
        assert_eq!(decode_cut(&stream, cuts), (our_said.clone(), our_end));

        let (their_said, their_code) = their_outcome(&stream, MESSAGE_BYTES_MAX);
        if let Some(Said::Close(Some((1014, _)))) = our_said.last() {
            assert_eq!(their_code, Some(1002));
            continue;
        }
        let End::Fault(fault) = our_end else {
            assert_eq!((&their_said, their_code), (&our_said, None));
            unharmed += 1;
            continue;
        };
        assert!(their_said.starts_with(&our_said), "{fault}: {our_said:?} but {their_said:?}");
        let not_minimal = ["length is not minimally encoded", "control frame has an extended length"];
        let code = u16::from(fault.code);
        if their_code == Some(code) && their_said.len() == our_said.len() {
            agreed += 1;
        } else if not_minimal.contains(&fault.reason) {
            stricter += 1;
        } else {
            assert_eq!(their_said, our_said, "{fault}");
            match their_code {
                // The stream ended before the frame did.
                None => earlier += 1,
                // Our fault comes before the length, or before the reason of a Close.
                Some(1009) if code == 1002 => first_of_two += 1,
                Some(1007) if fault.reason == "close code is not legal" => first_of_two += 1,
                Some(their_code) => panic!("{fault} but {their_code}"),
            }
        }
    }
    let counts = [unharmed, agreed, earlier, stricter, first_of_two];
    eprintln!("{counts:?}");
    assert!(counts.iter().all(|&count| count >= 10), "a branch was hardly visited: {counts:?}");
}
