//! The server's address, connections to it, and the error messages if it does not answer.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use crate::wire::reply::{self, write_get};

use super::super::url::Url;
use super::format::clean;
use super::terminal::parse_seconds;

/// The most bytes of a response, in addition to those of the request.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// The most bytes of the head of a response.
const HEAD_BYTES_MAX: usize = 64 << 10;

const READ_BYTES: usize = 16 << 10;

/// The flags of every command that talks to a server.
#[derive(Debug, Args)]
pub(super) struct ServerFlags {
    /// The server: http://HOST:PORT, with a path if a proxy serves it below one
    #[arg(long, value_name = "URL", env = "POLECAT_URL", default_value = "http://127.0.0.1:8010")]
    #[arg(value_parser = Url::parse)]
    pub(super) url: Url,

    /// Seconds to wait for a connection, and for each response
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Failure {
    /// For people; it names the server.
    pub(super) text: String,
    /// Whether it may work if it is tried again.
    pub(super) is_passing: bool,
    /// Whether we have sent more per second than the server accepts.
    pub(super) is_hasty: bool,
}

impl Failure {
    pub(super) fn passing(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_passing: true, is_hasty: false }
    }

    pub(super) fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_passing: false, is_hasty: false }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl ServerFlags {
    /// Its name in messages for people.
    pub(super) fn name(&self) -> &str {
        self.url.authority()
    }

    /// A connection to the first of its addresses that accepts one.
    pub(super) fn connect(&self) -> Result<TcpStream, Failure> {
        let addrs = self
            .url
            .addrs()
            .map_err(|error| Failure::passing(format!("cannot find {error}; --url names another server")))?;
        let mut last = None;
        for addr in addrs {
            match TcpStream::connect_timeout(&addr, self.timeout) {
                Ok(stream) => {
                    // It only saves time.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        let name = self.name();
        Err(Failure::passing(match last {
            Some(error) if error.kind() == ErrorKind::ConnectionRefused => {
                format!("nothing listens at {name}; start polecat there, or name another server with --url")
            }
            Some(error) if error.kind() == ErrorKind::TimedOut => {
                format!(
                    "{name} did not accept a connection within {} s; --url names another server",
                    self.timeout.as_secs_f64()
                )
            }
            Some(error) => format!("cannot connect to {name}: {error}; --url names another server"),
            None => format!("{name} has no address"),
        }))
    }

    /// The server's report about itself.
    pub(super) fn health(&self) -> Result<Answer, Failure> {
        let mut request = Vec::new();
        write_get(self.name(), &self.url.below("/api/health?verbose=1"), &mut request);
        self.ask_on(self.connect()?, &request)
    }

    /// Sends `request` and waits for the answer.
    pub(super) fn ask_on(&self, mut stream: TcpStream, request: &[u8]) -> Result<Answer, Failure> {
        let mut buffer = Vec::new();
        self.exchange(&mut stream, request, request.len() + REPLY_BYTES_MAX, &mut buffer)?;
        match reply::parse(&buffer) {
            Ok(Some(reply)) => Ok(Answer { status: reply.status, body: reply.body.to_vec() }),
            _ => Err(self.not_http("no HTTP response")),
        }
    }

    /// The same, but leaves one response at the front of `buffer`, perhaps with more bytes behind it.
    pub(super) fn exchange(
        &self,
        stream: &mut TcpStream,
        request: &[u8],
        bytes_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let broken = |error: &io::Error| self.broken(error);
        stream.set_write_timeout(Some(self.timeout)).map_err(|error| broken(&error))?;
        // A request that was refused while it was being sent still has a response.
        let sent = stream.write_all(request);
        let deadline = Instant::now() + self.timeout;
        let mut chunk = [0; READ_BYTES];
        loop {
            match reply::parse(buffer) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if buffer.len() > bytes_max || !has_head(buffer) => {
                    return Err(Failure::lasting(format!(
                        "{} sent more than {} bytes; is it polecat?",
                        self.name(),
                        bytes_max.min(buffer.len())
                    )));
                }
                Ok(None) => {}
                Err(reason) => return Err(self.not_http(reason)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.silent());
            }
            stream.set_read_timeout(Some(left)).map_err(|error| broken(&error))?;
            match stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(match sent {
                        Err(error) => broken(&error),
                        Ok(()) => Failure::passing(format!(
                            "{} ended the connection without a complete response",
                            self.name()
                        )),
                    });
                }
                Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }

    pub(super) fn silent(&self) -> Failure {
        Failure::passing(format!("no response from {} within {} s", self.name(), self.timeout.as_secs_f64()))
    }

    pub(super) fn broken(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.silent(),
            _ => Failure::passing(format!("the connection to {} broke: {error}", self.name())),
        }
    }

    fn not_http(&self, reason: &str) -> Failure {
        let name = self.name();
        Failure::lasting(format!(
            "{name} does not behave like polecat ({reason}); name another server with --url"
        ))
    }

    pub(super) fn refusal(&self, status: u16, body: &[u8]) -> Failure {
        let is_passing = matches!(status, 408 | 429 | 500 | 502..=504);
        let name = self.name();
        let text = match (status, detail_of(body)) {
            (_, Some(detail)) => format!("{name} answered {status}: {detail}"),
            (404, None) => format!("{name} answered 404; is it polecat, and is the path in --url right?"),
            (_, None) => format!("{name} answered {status}"),
        };
        Failure { text, is_passing, is_hasty: false }
    }
}

/// Whether an incomplete response has its head within the allowed bytes.
fn has_head(answer: &[u8]) -> bool {
    answer.len() <= HEAD_BYTES_MAX || answer[..HEAD_BYTES_MAX].windows(4).any(|end| end == b"\r\n\r\n")
}

pub(super) fn detail_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Detail {
        Text(String),
        Mistakes(Vec<Mistake>),
    }
    #[derive(Deserialize)]
    struct Mistake {
        #[serde(default)]
        loc: Vec<serde_json::Value>,
        msg: String,
        #[serde(default)]
        ctx: Option<Context>,
    }
    #[derive(Deserialize)]
    struct Context {
        #[serde(default)]
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Body {
        detail: Detail,
    }
    let text = match serde_json::from_slice::<Body>(body).ok()?.detail {
        Detail::Text(text) => text,
        Detail::Mistakes(mistakes) => {
            let lines = mistakes.iter().map(|mistake| {
                let error = mistake.ctx.as_ref().and_then(|ctx| ctx.error.as_ref());
                let more = error.map_or_else(String::new, |error| format!(" ({error})"));
                match mistake.loc.last() {
                    Some(serde_json::Value::String(field)) => format!("{field}: {}{more}", mistake.msg),
                    _ => format!("{}{more}", mistake.msg),
                }
            });
            lines.collect::<Vec<_>>().join("; ")
        }
    };
    Some(excerpt(&text))
}

/// The beginning of a text from outside, on one line.
pub(super) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let mut cut = text.chars().take(CHARS_MAX).collect::<String>();
    if cut.len() < text.len() {
        cut.push('…');
    }
    clean(&cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_of_an_error_is_one_short_line() {
        for (body, detail) in [
            (r#"{"detail":"too\nmany"}"#, Some(r"too\nmany")),
            (
                r#"{"detail":[{"type":"missing","loc":["body","author"],"msg":"Field required"},{"msg":"x"}]}"#,
                Some("author: Field required; x"),
            ),
            (
                r#"{"detail":[{"loc":["body",3],"msg":"JSON decode error","ctx":{"error":"too deep"}}]}"#,
                Some("JSON decode error (too deep)"),
            ),
            (r#"{"detail":5}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(detail_of(body.as_bytes()).as_deref(), detail, "{body}");
        }
        let long = format!(r#"{{"detail":"{}"}}"#, "x".repeat(5000));
        assert!(detail_of(long.as_bytes()).is_some_and(|detail| detail.len() < 300));
    }
}
