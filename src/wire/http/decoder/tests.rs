#![allow(clippy::unwrap_used, clippy::expect_used)]
//! Raw bytes and their outcome. Every input is decoded as a whole, byte by byte, and in two parts split
//! anywhere; all must have the same outcome.

use super::*;

fn limits() -> Limits {
    Limits {
        body_bytes_max: 100,
        head_bytes_max: 400,
        head_fields_max: 10,
        target_bytes_max: 60,
        chunk_extra_bytes_max: 40,
        ..Limits::default()
    }
}

/// All that a request says, in a form that can be compared, or the refusal.
type Outcome = Result<String, Refusal>;

fn describe(request: &Request<'_>) -> String {
    let path = match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    format!(
        "{} {path} {} {} {} [{}]",
        request.method.as_str(),
        if request.version == Version::Http11 { "1.1" } else { "1.0" },
        request.host.unwrap_or("-"),
        if request.keep_alive { "keep" } else { "close" },
        request.body.escape_ascii(),
    )
}

/// Feeds `input` in pieces that end at `ends`. Returns the outcomes, how many bytes were left, and how often
/// `100 Continue` was requested.
fn feed(input: &[u8], ends: impl Iterator<Item = usize>, limits: &Limits) -> (Vec<Outcome>, usize, usize) {
    let mut decoder = RequestDecoder::default();
    let (mut buffer, mut outcomes, mut fed, mut continues) = (Vec::new(), Vec::new(), 0, 0);
    for end in ends {
        buffer.extend_from_slice(&input[fed..end]);
        fed = end;
        loop {
            let before = buffer.clone();
            match decoder.decode(&mut buffer, limits) {
                Ok(RequestStep::NeedMore { send_continue }) => {
                    assert_eq!(buffer, before, "changed by an unfinished request");
                    continues += usize::from(send_continue);
                    break;
                }
                Ok(RequestStep::Request { request, consumed }) => {
                    outcomes.push(Ok(describe(&request)));
                    assert!(consumed > 0);
                    buffer.drain(..consumed);
                    assert!(decoder.is_idle());
                }
                Err(refusal) => {
                    outcomes.push(Err(refusal));
                    return (outcomes, 0, continues);
                }
            }
        }
    }
    (outcomes, buffer.len(), continues)
}

/// Feeds `input` in every way, and returns the outcomes, which must be the same.
fn decode_with(input: &[u8], limits: &Limits) -> (Vec<Outcome>, usize) {
    let len = input.len();
    let (outcomes, left, _) = feed(input, std::iter::once(len), limits);
    let (dribbled, dribbled_left, _) = feed(input, 1..=len, limits);
    assert_eq!((&outcomes, left), (&dribbled, dribbled_left), "dribbled: {}", input.escape_ascii());
    for cut in 0..len {
        let (split, split_left, _) = feed(input, [cut, len].into_iter(), limits);
        assert_eq!((&outcomes, left), (&split, split_left), "cut at {cut}: {}", input.escape_ascii());
    }
    (outcomes, left)
}

fn decode(input: &[u8]) -> (Vec<Outcome>, usize) {
    decode_with(input, &limits())
}

/// The only outcome of `input`: a request, or the status of a refusal.
fn only(input: &[u8]) -> Result<String, u16> {
    let (outcomes, left) = decode(input);
    assert_eq!(outcomes.len(), 1, "{} -> {outcomes:?}, {left} left", input.escape_ascii());
    assert_eq!(left, 0, "{}", input.escape_ascii());
    outcomes[0].clone().map_err(|refusal| refusal.status.code())
}

/// Request lines, each with the outcome of a request that has `Host: h`.
const REQUEST_LINES: &[(&str, Result<&str, u16>)] = &[
    ("GET / HTTP/1.1", Ok("GET / 1.1 h keep []")),
    ("GET / HTTP/1.0", Ok("GET / 1.0 h close []")),
    ("HEAD /a%20b?x=y HTTP/1.1", Ok("HEAD /a%20b?x=y 1.1 h keep []")),
    ("POST //a/../b HTTP/1.1", Ok("POST //a/../b 1.1 h keep []")),
    ("PUT /?a?b HTTP/1.1", Ok("PUT /?a?b 1.1 h keep []")),
    ("DELETE /[]{}|^`\\ HTTP/1.1", Ok("DELETE /[]{}|^`\\ 1.1 h keep []")),
    ("PATCH /? HTTP/1.1", Ok("PATCH /? 1.1 h keep []")),
    ("get / HTTP/1.1", Ok("get / 1.1 h keep []")),
    ("M-SEARCH!#$%&'*+.^_`|~9 / HTTP/1.1", Ok("M-SEARCH!#$%&'*+.^_`|~9 / 1.1 h keep []")),
    ("OPTIONS * HTTP/1.1", Ok("OPTIONS * 1.1 h keep []")),
    ("OPTIONS /a HTTP/1.1", Ok("OPTIONS /a 1.1 h keep []")),
    ("OPTIONS http://x HTTP/1.1", Ok("OPTIONS * 1.1 x keep []")),
    ("OPTIONS http://x?q HTTP/1.1", Ok("OPTIONS /?q 1.1 x keep []")),
    ("GET http://x HTTP/1.1", Ok("GET / 1.1 x keep []")),
    ("GET http://x:80?q HTTP/1.1", Ok("GET /?q 1.1 x:80 keep []")),
    ("GET HTTPS://[::1]:8010/a?b HTTP/1.1", Ok("GET /a?b 1.1 [::1]:8010 keep []")),
    ("GET http://x/http://y HTTP/1.1", Ok("GET /http://y 1.1 x keep []")),
    ("GET * HTTP/1.1", Err(400)),
    ("OPTIONS ** HTTP/1.1", Err(400)),
    ("GET a HTTP/1.1", Err(400)),
    ("GET x:80 HTTP/1.1", Err(400)),
    ("GET ?a HTTP/1.1", Err(400)),
    ("GET ftp://x/ HTTP/1.1", Err(400)),
    ("GET ws://x/ HTTP/1.1", Err(400)),
    ("GET http:/x HTTP/1.1", Err(400)),
    ("GET http:///x HTTP/1.1", Err(400)),
    ("GET http://u@x/ HTTP/1.1", Err(400)),
    ("GET http://x:y/ HTTP/1.1", Err(400)),
    ("GET /#a HTTP/1.1", Err(400)),
    ("GET /\"a\" HTTP/1.1", Err(400)),
    ("GET /<a> HTTP/1.1", Err(400)),
    ("GET /é HTTP/1.1", Err(400)),
    ("CONNECT x:80 HTTP/1.1", Err(501)),
    ("CONNECT / HTTP/1.1", Err(501)),
    ("GET / HTTP/2.0", Err(505)),
    ("GET / HTTP/0.9", Err(505)),
    ("GET / HTTP/1.2", Err(505)),
    ("PRI * HTTP/2.0", Err(505)),
    ("GET / HTTP/2", Err(400)),
    ("GET / HTTP/1.10", Err(400)),
    ("GET / http/1.1", Err(400)),
    ("GET / HTTP/1.1 ", Err(400)),
    ("GET / HTTPS/1.1", Err(400)),
    ("GET / HTTP/a.1", Err(400)),
    ("GET  / HTTP/1.1", Err(400)),
    ("GET /  HTTP/1.1", Err(400)),
    ("GET / a HTTP/1.1", Err(400)),
    ("GET\t/ HTTP/1.1", Err(400)),
    ("GET /\tHTTP/1.1", Err(400)),
    (" GET / HTTP/1.1", Err(400)),
    ("\tGET / HTTP/1.1", Err(400)),
    ("GET /", Err(400)),
    ("GET", Err(400)),
    ("GET ", Err(400)),
    ("/ HTTP/1.1", Err(400)),
    ("G(T / HTTP/1.1", Err(400)),
    ("G\u{e9}T / HTTP/1.1", Err(400)),
    ("GET /\0 HTTP/1.1", Err(400)),
    ("GET /\x7f HTTP/1.1", Err(400)),
    ("GET /\r HTTP/1.1", Err(400)),
    ("GET /\n HTTP/1.1", Err(400)),
    ("HTTP/1.1 200 OK", Err(400)),
    ("\x16\x03\x01", Err(400)),
];

#[test]
fn request_lines() {
    for (line, wanted) in REQUEST_LINES {
        let input = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(only(input.as_bytes()), wanted.map(str::to_owned), "{line:?}");
    }
}

/// Whether the connection stays open after a GET with `Host: h` and these fields,
/// or the status of the refusal.
const HEADER_FIELDS: &[(&str, Result<&str, u16>)] = &[
    ("X:", Ok("keep")),
    ("X: \t y \t ", Ok("keep")),
    ("x: a\tb", Ok("keep")),
    ("!#$%&'*+-.^_`|~: y", Ok("keep")),
    ("X: \u{e9}", Ok("keep")),
    ("Connection: close", Ok("close")),
    ("connection: Keep-Alive, CLOSE", Ok("close")),
    ("Connection: a\r\nConnection:,close,", Ok("close")),
    ("Connection: closed", Ok("keep")),
    ("Connection: keep-alive", Ok("keep")),
    ("Content-Length: 0", Ok("keep")),
    ("Content-Length: 0, 00", Ok("keep")),
    ("Expect: 100-continue", Ok("keep")),
    ("Expect: ", Ok("keep")),
    ("X : y", Err(400)),
    ("X\t: y", Err(400)),
    (" X: y", Err(400)),
    ("X: y\r\n z", Err(400)),
    ("X: y\r\n\tz", Err(400)),
    ("X: y\r\n ", Err(400)),
    ("X", Err(400)),
    (": y", Err(400)),
    ("X(: y", Err(400)),
    ("X Y: z", Err(400)),
    ("X\u{e9}: y", Err(400)),
    ("X: a\0b", Err(400)),
    ("X: a\x01", Err(400)),
    ("X: a\x0bb", Err(400)),
    ("X: a\x1bb", Err(400)),
    ("X: a\x7f", Err(400)),
    ("X\0: a", Err(400)),
    ("X: a\rb", Err(400)),
    ("X: a\r", Err(400)),
    ("X: a\nY: b", Err(400)),
    ("X: a\n", Err(400)),
    ("\rX: a", Err(400)),
    ("X: a\r\n\n", Err(400)),
    ("Host: h", Err(400)),
    ("host: other", Err(400)),
    ("Content-Length: ", Err(400)),
    ("Content-Length: -0", Err(400)),
    ("Content-Length: +0", Err(400)),
    ("Content-Length: 0x0", Err(400)),
    ("Content-Length: 0 0", Err(400)),
    ("Content-Length: 0,", Err(400)),
    ("Content-Length: 1, 2", Err(400)),
    ("Content-Length: 0\r\nContent-Length: 1", Err(400)),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked", Err(400)),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", Err(400)),
    ("Content-Length: 101", Err(413)),
    ("Content-Length: 18446744073709551616", Err(413)),
    ("Content-Length: 99999999999999999999999999999", Err(413)),
    ("Transfer-Encoding: ", Err(400)),
    ("Transfer-Encoding: ,chunked", Err(400)),
    ("Transfer-Encoding: chunked,", Err(400)),
    ("Transfer-Encoding: chunked, chunked", Err(400)),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(400)),
    ("Transfer-Encoding: chunked, gzip", Err(400)),
    ("Transfer-Encoding: chunked;a=b", Err(400)),
    ("Transfer-Encoding: \"chunked\"", Err(400)),
    ("Transfer-Encoding: chunked chunked", Err(400)),
    ("Transfer-Encoding: gzip", Err(501)),
    ("Transfer-Encoding: gzip, chunked", Err(501)),
    ("Transfer-Encoding: gzip;q=1\r\nTransfer-Encoding: chunked", Err(501)),
    ("Transfer-Encoding: identity", Err(501)),
    ("Transfer-Encoding: xchunked", Err(501)),
    ("Expect: 200-ok", Err(417)),
    ("Expect: 100-continue, x", Err(417)),
    ("Expect: 100-continue;a=b", Err(417)),
];

#[test]
fn header_fields() {
    for (fields, wanted) in HEADER_FIELDS {
        let input = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        let wanted = wanted.map(|connection| format!("GET / 1.1 h {connection} []"));
        assert_eq!(only(input.as_bytes()), wanted, "{fields:?}");
    }
}

#[test]
fn what_is_as_long_as_allowed_passes_and_one_byte_more_does_not() {
    let target = |len| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 1));
    let method = |len| format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "A".repeat(len));
    let fields = |count| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    let head = |len| {
        let empty = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n";
        empty.replace("X: ", &format!("X: {}", "x".repeat(len - empty.len())))
    };
    let limits = limits();
    for (fits, exceeds, status) in [
        (target(limits.target_bytes_max), target(limits.target_bytes_max + 1), 414),
        (target(limits.target_bytes_max), target(300), 414),
        (method(111), method(112), 414),
        (fields(limits.head_fields_max), fields(limits.head_fields_max + 1), 431),
        (head(limits.head_bytes_max), head(limits.head_bytes_max + 1), 431),
    ] {
        assert!(only(fits.as_bytes()).is_ok(), "{fits:?}");
        assert_eq!(only(exceeds.as_bytes()), Err(status), "{exceeds:?}");
    }
    let many = Limits { head_fields_max: 1_000, ..Limits::default() };
    let (outcomes, _) = decode_with(fields(256).as_bytes(), &many);
    assert!(matches!(outcomes[..], [Ok(_)]));
    let (outcomes, _) = decode_with(fields(257).as_bytes(), &many);
    assert_eq!(outcomes[0].as_ref().map_err(|refusal| refusal.status), Err(Status::HEADER_FIELDS_TOO_LARGE));
}

#[test]
fn hosts() {
    for (version, fields, wanted) in [
        ("1.1", "Host: a.example:8010", Ok("a.example:8010 keep")),
        ("1.1", "hOST:[::1]", Ok("[::1] keep")),
        ("1.0", "X: y", Ok("- close")),
        ("1.0", "Host: h", Ok("h close")),
        ("1.0", "Connection: keep-alive", Ok("- keep")),
        ("1.0", "Connection: keep-alive, close", Ok("- close")),
        ("1.0", "Expect: 100-continue", Ok("- close")),
        ("1.1", "X: y", Err(400)),
        ("1.1", "Host:", Err(400)),
        ("1.1", "Host: a b", Err(400)),
        ("1.1", "Host: a, b", Err(400)),
        ("1.1", "Host: a/b", Err(400)),
        ("1.1", "Host: u@a", Err(400)),
        ("1.1", "Host: http://a", Err(400)),
        ("1.1", "Host: a:99999", Err(400)),
        ("1.1", "Host: a:b", Err(400)),
        ("1.1", "Host: [::1", Err(400)),
        ("1.1", "Host: [::g]", Err(400)),
        ("1.1", "Host: \u{e9}", Err(400)),
        ("1.1", "Host: a\r\nHost: a", Err(400)),
        ("1.0", "Host: a\r\nHost: b", Err(400)),
        ("1.0", "Host: a b", Err(400)),
        ("1.0", "Transfer-Encoding: chunked", Err(400)),
        ("1.0", "Expect: x", Err(417)),
    ] {
        let input = format!("GET / HTTP/{version}\r\n{fields}\r\n\r\n");
        let wanted = wanted.map(|rest| format!("GET / {version} {rest} []"));
        assert_eq!(only(input.as_bytes()), wanted, "{version} {fields:?}");
    }
    // The Host must be there and legal even if the target has an authority.
    assert_eq!(only(b"GET http://x/ HTTP/1.1\r\n\r\n"), Err(400));
    assert_eq!(only(b"GET http://x/ HTTP/1.1\r\nHost: a b\r\n\r\n"), Err(400));
}

#[test]
fn bodies() {
    let full = "a".repeat(100);
    for (fields, body, wanted) in [
        ("Content-Length: 3", "abc", Ok("abc")),
        ("Content-Length: 3, 3\r\ncontent-length: 003", "abc", Ok("abc")),
        ("Content-Length: 100", full.as_str(), Ok(full.as_str())),
        ("Content-Length: 4\r\nExpect: 100-Continue", "\r\n\r\n", Ok("\\r\\n\\r\\n")),
        ("Transfer-Encoding: chunked", "0\r\n\r\n", Ok("")),
        ("transfer-encoding:  Chunked", "3;x\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n", Ok("abcd")),
        ("Transfer-Encoding: chunked", "3\r\nabcd\r\n", Err(400)),
        ("Transfer-Encoding: chunked", "3\nabc", Err(400)),
        ("Transfer-Encoding: chunked", "65\r\n", Err(413)),
        ("Transfer-Encoding: chunked\r\nExpect: 100-continue", "x\r\n", Err(400)),
    ] {
        let input = format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}");
        let wanted = wanted.map(|body| format!("POST /a 1.1 h keep [{body}]"));
        assert_eq!(only(input.as_bytes()), wanted, "{fields:?} {body:?}");
    }
}

#[test]
fn requests_in_one_segment_come_out_in_order() {
    let get = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n";
    let sized = "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET \r\n";
    let chunked =
        "POST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
    let bad = "GET /4 HTTP/1.1\r\nHost : h\r\n\r\n";
    let (outcomes, left) = decode([get, sized, chunked, get, "GET /un"].concat().as_bytes());
    let requests: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        requests,
        [
            "GET /1 1.1 h keep []",
            "POST /2 1.1 h keep [GET ]",
            "POST /3 1.1 h keep [abc]",
            "GET /1 1.1 h keep []"
        ]
    );
    assert_eq!(left, "GET /un".len());
    let (outcomes, _) = decode([get, sized, bad, get].concat().as_bytes());
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[2].as_ref().unwrap_err().status, Status::BAD_REQUEST);
}

#[test]
fn empty_lines_before_a_request_are_skipped_but_not_for_ever() {
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for count in 0..=4 {
        let input = "\r\n".repeat(count) + get;
        assert_eq!(only(input.as_bytes()), Ok("GET / 1.1 h keep []".to_owned()));
    }
    assert_eq!(only(("\r\n".repeat(5) + get).as_bytes()), Err(400));
    assert_eq!(only(b"\n"), Err(400));
    assert_eq!(only(b"\rG"), Err(400));
    let mut decoder = RequestDecoder::default();
    for (input, idle) in [("", true), ("\r", true), ("\r\n\r\n", true), ("\r\n\r\nG", false)] {
        let mut bytes = input.as_bytes().to_vec();
        assert!(matches!(decoder.decode(&mut bytes, &limits()), Ok(RequestStep::NeedMore { .. })));
        assert_eq!(decoder.is_idle(), idle, "{input:?}");
    }
    let mut decoder = RequestDecoder::default();
    assert!(decoder.decode(&mut b"\r\n".to_vec(), &limits()).is_ok() && decoder.is_idle());
    let mut afresh = get.as_bytes().to_vec();
    match decoder.decode(&mut afresh, &limits()) {
        Ok(RequestStep::Request { request, .. }) => assert_eq!(request.method, Method::Get),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_continue_is_asked_for_once_and_only_before_the_body() {
    let head = |version: &str, fields: &str| {
        format!("POST / HTTP/{version}\r\nHost: h\r\nExpect: 100-continue\r\n{fields}\r\n\r\n")
    };
    let sized = head("1.1", "Content-Length: 3") + "abc";
    let chunked = head("1.1", "Transfer-Encoding: chunked") + "0\r\n\r\n";
    for input in [&sized, &chunked] {
        let head_end = input.find("\r\n\r\n").unwrap() + 4;
        assert_eq!(feed(input.as_bytes(), 1..=input.len(), &limits()).2, 1);
        let feed_cut = |cut| feed(input.as_bytes(), [cut, cut, input.len()].into_iter(), &limits()).2;
        assert_eq!(feed_cut(head_end), 1);
        assert_eq!(feed_cut(head_end - 1), 0);
        assert_eq!(feed_cut(head_end + 1), 0);
    }
    for input in [
        head("1.0", "Content-Length: 3") + "abc",
        head("1.1", "Content-Length: 0"),
        head("1.1", "X: y"),
        head("1.1", "Content-Length: 101"),
    ] {
        assert_eq!(feed(input.as_bytes(), 1..=input.len(), &limits()).2, 0, "{input:?}");
    }
}

#[test]
fn a_request_shows_its_fields() {
    let mut input = b"GET /a?last_event_id=event-00042&x=a+b%21 HTTP/1.1\r\nHost: h\r\nAccept: a\r\n\
        X-Raw: \xff\r\nX-Text: \xc3\xa9\r\naccept: b, C\r\nX-Empty: \r\n\r\nrest"
        .to_vec();
    let Ok(RequestStep::Request { request, consumed }) =
        RequestDecoder::default().decode(&mut input, &Limits::default())
    else {
        panic!("no request")
    };
    assert_eq!(request.method, Method::Get);
    assert_eq!(request.header("ACCEPT"), Some("a"));
    assert_eq!(request.header("X-Raw"), None);
    assert_eq!(request.header("x-text"), Some("é"));
    assert_eq!(request.header("X-Empty"), Some(""));
    assert_eq!(request.header("X-Absent"), None);
    assert_eq!(request.header_values("x-raw").collect::<Vec<_>>(), [b"\xff"]);
    assert_eq!(request.header_values("accept").count(), 2);
    assert!(request.has_token("accept", "c") && !request.has_token("accept", "d"));
    assert_eq!(request.query_value("last_event_id").as_deref(), Some("event-00042"));
    assert_eq!(request.query_value("x").as_deref(), Some("a b!"));
    assert_eq!(input.len() - consumed, "rest".len());
}

mod hostile;
