//! Input that is meant to be expensive or to break something.

use super::super::super::field::work;
use super::*;

#[test]
fn dribbling_costs_linear_work() {
    let limits = Limits { head_fields_max: 256, ..Limits::default() };
    let fields = "X-Field: some value\r\n".repeat(200);
    let inputs = [
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n{fields}\r\n", "a".repeat(8_000)),
        format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 9000\r\n\r\n{}", "b".repeat(9_000)),
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n{}\r\n",
            "1;a\r\nb\r\n".repeat(3_000),
            "T: x\r\n".repeat(200)
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;{}\r\nb\r\n0\r\nT: {}\r\n\r\n",
            "a".repeat(4_000),
            "y".repeat(4_000)
        ),
        "GET / HTTP/1.1\r\nX: ".to_owned() + &"a".repeat(20_000),
    ];
    for input in inputs {
        let mut bytes = input.clone().into_bytes();
        let mut decoder = RequestDecoder::default();
        work::take();
        let mut finished = false;
        for len in 1..=bytes.len() {
            match decoder.decode(&mut bytes[..len], &limits) {
                Ok(RequestStep::NeedMore { .. }) => {}
                Ok(RequestStep::Request { consumed, .. }) => {
                    assert_eq!(consumed, input.len());
                    finished = true;
                }
                Err(refusal) => {
                    assert_eq!(refusal.status, Status::HEADER_FIELDS_TOO_LARGE);
                    finished = true;
                    break;
                }
            }
        }
        let work = work::take();
        assert!(finished, "{}", &input[..40]);
        assert!(work >= input.len() / 2, "the work is not counted: {work}");
        assert!(work <= 4 * input.len(), "{work} bytes looked at for {}", input.len());
    }
}

#[test]
fn an_unfinished_request_is_bounded() {
    let limits = limits();
    let bound = limits.head_bytes_max + 2 * limits.body_bytes_max + limits.chunk_extra_bytes_max + 64;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n";
    for endless in [
        "A".repeat(2_000),
        format!("GET /{}", "a".repeat(2_000)),
        "GET / HTTP/1.1\r\n".to_owned() + &"A: b\r\n".repeat(500),
        head.to_owned() + "X: " + &"y".repeat(2_000),
        format!("{head}X: {}\r\n\r\n{}", "y".repeat(300), "1\r\na\r\n".repeat(500)),
        format!("{head}\r\n{}", "0".repeat(2_000)),
        format!("{head}\r\n1;{}", "a".repeat(2_000)),
        format!("{head}\r\n0\r\nA: {}", "b".repeat(2_000)),
        format!("{head}\r\n0\r\n{}", "A: b\r\n".repeat(500)),
        "\r\n".repeat(1_000),
    ] {
        let mut bytes = endless.into_bytes();
        let mut decoder = RequestDecoder::default();
        let refused = (1..=bytes.len()).find(|len| decoder.decode(&mut bytes[..*len], &limits).is_err());
        assert!(refused.is_some_and(|len| len <= bound), "{refused:?}: {}", bytes[..60].escape_ascii());
    }
}

/// Random bytes, and legal requests with random damage: nothing panics, every way of splitting has the same
/// outcome, and every accepted request is clean.
#[test]
#[expect(clippy::print_stdout, reason = "shown only where the test fails: the seed to replay")]
fn damaged_requests_mean_the_same_however_they_are_cut() {
    let samples: [&[u8]; 4] = [
        b"GET /a?b=c HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"POST http://x/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    const SPICE: &[u8] = b"\r\n\t :;,=\"%/?#0159af\0\x7f\x80\xffHTTP";
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..3_000_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input = samples[random.usize(..samples.len())].to_vec();
        if random.u8(..8) == 0 {
            input = vec![0; random.usize(1..60)];
            random.fill(&mut input);
        }
        for _ in 0..random.usize(..4) {
            let at = random.usize(..input.len());
            match random.u8(..4) {
                0 => input[at] = SPICE[random.usize(..SPICE.len())],
                1 => input.insert(at, SPICE[random.usize(..SPICE.len())]),
                2 if input.len() > 1 => drop(input.remove(at)),
                _ => input[at] = random.u8(..),
            }
        }
        println!("seed {seed}: {}", input.escape_ascii());
        let (whole, left, _) = feed(&input, std::iter::once(input.len()), &limits());
        let (dribbled, dribbled_left, _) = feed(&input, 1..=input.len(), &limits());
        assert_eq!((&whole, left), (&dribbled, dribbled_left));
        for outcome in whole {
            match outcome {
                Ok(text) => {
                    accepted += 1;
                    assert!(!text.contains(char::is_control), "{text:?}");
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(accepted > 500 && refused > 500, "{accepted} accepted, {refused} refused");
}
