//! `polecat event`: one event by POST, with an idempotency key.

use std::io::{self, Read as _};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::wire::json::check;
use crate::wire::reply::write_post;

use super::backoff::Backoff;
use super::send::parse_key;
use super::sent::{Moment, Sent};
use super::server::{Failure, ServerFlags, excerpt};
use super::terminal::{parse_seconds, print};

const PATIENCE: Duration = Duration::from_secs(30);

/// The longest payload that is read from standard input.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// The flags of `polecat event`.
#[derive(Debug, Args)]
#[command(
    after_help = "The id of the event is printed once it is stored. If no response comes, the event is sent again with \
    the same idempotency key, so that the server stores it once. If the server may have forgotten the key, the event is \
    not sent again: it may or may not be stored.\n\n\
    Examples:\n  \
    polecat event scan_started\n  \
    polecat event scan_started '{\"project\":7}'\n  \
    polecat event scan_finished --correlation-id r-1 - < result.json\n\n\
    Exit status: 0 if it is stored; 1 if not, or if that is unknown (stderr says why); 2 for a wrong command line."
)]
pub(in crate::cli) struct Event {
    /// The type
    #[arg(value_name = "TYPE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    kind: String,

    /// The payload, a JSON object; - reads it from standard input [default: {}]
    #[arg(value_name = "JSON", value_parser = parse_payload)]
    payload: Option<String>,

    /// The correlation id [default: a new one from the server]
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,

    /// The idempotency key, under which the server stores the event only once within its --idempotency-window
    /// [default: a new one]
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,

    /// Do not print the id
    #[arg(short, long)]
    quiet: bool,

    /// Seconds to keep trying if no response comes or the server cannot store [default: 30 once there was a
    /// connection, else not at all]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    retry: Option<Duration>,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

fn parse_payload(text: &str) -> Result<String, String> {
    if text != "-" {
        object(text)?;
    }
    Ok(text.to_owned())
}

/// The text of a JSON object, as it was written, if a server can store it.
fn object(text: &str) -> Result<Box<RawValue>, String> {
    let json = serde_json::from_str::<Box<RawValue>>(text).map_err(|error| format!("not JSON: {error}"))?;
    check(text).map_err(|error| format!("JSON that cannot be stored: {error}"))?;
    if json.get().starts_with('{') {
        Ok(json)
    } else {
        Err("JSON, but not an object such as {\"project\":7}".to_owned())
    }
}

impl Event {
    pub(super) fn run(&self) -> Result<(), String> {
        let payload = self.payload()?;
        let body =
            Body { r#type: &self.kind, payload: &payload, correlation_id: self.correlation_id.as_deref() };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let key = self.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut request = Vec::new();
        let field = format!("Idempotency-Key: {key}\r\nConnection: close\r\n");
        let server = &self.server;
        write_post(server.name(), &server.url.below("/api/events"), &field, &body, &mut request);
        let mut backoff = Backoff::new(self.retry, Some(PATIENCE));
        let mut sent = None;
        loop {
            let failure = match self.post(&request, &mut backoff, &mut sent) {
                Ok(_) if self.quiet => return Ok(()),
                Ok(id) => return print(&format!("{id}\n")).map(|_| ()),
                Err(failure) => failure,
            };
            backoff.wait(&failure, false).map_err(|line| match sent {
                Some(_) => format!("the event may or may not be stored: {line}"),
                None => line,
            })?;
        }
    }

    fn payload(&self) -> Result<Box<RawValue>, String> {
        let mut text = String::new();
        match self.payload.as_deref() {
            None => text += "{}",
            Some("-") => {
                let read = io::stdin().lock().take(PAYLOAD_BYTES_MAX + 1).read_to_string(&mut text);
                read.map_err(|error| format!("standard input cannot be read: {error}"))?;
                if text.len() as u64 > PAYLOAD_BYTES_MAX {
                    return Err(format!("standard input has more than {PAYLOAD_BYTES_MAX} bytes"));
                }
            }
            Some(payload) => text += payload,
        }
        object(&text).map_err(|error| format!("the payload is {error}"))
    }

    /// For how long the server remembers a key; zero if it does not say.
    fn memory(&self) -> Result<Duration, Failure> {
        #[derive(Deserialize)]
        struct Health {
            engine: Engine,
        }
        #[derive(Deserialize)]
        struct Engine {
            idempotency_window_ms: u64,
        }
        let answer = self.server.health()?;
        match serde_json::from_slice::<Health>(&answer.body) {
            Ok(Health { engine }) => Ok(Duration::from_millis(engine.idempotency_window_ms)),
            Err(_) if answer.status == 503 => Err(self.server.refusal(answer.status, &answer.body)),
            Err(_) => Ok(Duration::ZERO),
        }
    }

    /// One attempt; returns the event's id. `sent` records since when the event may be stored.
    fn post(
        &self,
        request: &[u8],
        backoff: &mut Backoff,
        sent: &mut Option<Sent>,
    ) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Stored {
            event: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            event_id: String,
        }
        let stream = self.server.connect()?;
        backoff.connected();
        if let Some(sent) = sent {
            sent.check(self.memory()?, Moment::now()).map_err(Failure::lasting)?;
        }
        let began = Moment::now();
        let answer = self.server.ask_on(stream, request);
        // A proxy may answer too, and does not know the outcome.
        if !matches!(&answer, Ok(answer) if is_decided(answer.status)) {
            sent.get_or_insert(Sent::new(began, Duration::MAX));
        }
        let answer = answer?;
        if answer.status != 200 {
            return Err(self.server.refusal(answer.status, &answer.body));
        }
        match serde_json::from_slice::<Stored>(&answer.body) {
            Ok(stored) => Ok(excerpt(&stored.event.event_id)),
            Err(_) => Err(Failure::lasting(format!(
                "{} answered 200 without an event; is it polecat?",
                self.server.name()
            ))),
        }
    }
}

/// Whether a response with this status proves that the event is stored, or that it is not.
const fn is_decided(status: u16) -> bool {
    matches!(status, 200..=499 | 501 | 503 | 505)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_object_as_it_was_written() {
        for (text, written) in [("{}", "{}"), (" {\"a\": 1.50} ", "{\"a\": 1.50}")] {
            assert_eq!(object(text).map(|json| json.get().to_owned()), Ok(written.to_owned()), "{text}");
        }
        for wrong in ["", "5", "[]", "{", "{} {}", "{\"a\":1e400}", "{\"\\ud800\":1}"] {
            assert!(object(wrong).is_err(), "{wrong}");
        }
    }
}
