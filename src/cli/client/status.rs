//! `polecat status`: the server's own report. Its keys are not known in advance, so newer servers can report
//! more, and older ones less.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value};

use crate::shell::flags::parse_within;

use super::format::{Part, Style};
use super::server::{Failure, ServerFlags, excerpt};
use super::terminal::print;
use super::wait::pause;

/// The flags of `polecat status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat status\n  \
    polecat status --watch 1\n  \
    polecat status --json --url http://127.0.0.1:9000\n\n\
    Exit status: 0 if the server is well; 1 if it cannot store, is shutting down, or cannot be reached; 2 for a \
    wrong command line. With --watch and -n, the last state counts.")]
pub(in crate::cli) struct Status {
    /// Repeat at this interval [without a value: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = parse_interval)]
    watch: Option<Duration>,

    /// With --watch, end after this many times
    #[arg(short = 'n', long, value_name = "COUNT", requires = "watch")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print the server's JSON on one line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerFlags,
}

/// Frequent requests would be load.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds = parse_within(text, 0.1..=8_640_000.0, "a number of seconds of at least 0.1");
    seconds.map(Duration::from_secs_f64)
}

/// The parts of a report in the order that people want; other parts follow.
const ORDER: [&str; 10] = [
    "version",
    "uptime_ms",
    "engine",
    "connections",
    "descriptors",
    "memory",
    "loop",
    "closed",
    "limits",
    "counters",
];

/// Parts in which zero counts are left out.
const SPARSE: [&str; 3] = ["closed", "limits", "counters"];

impl Status {
    pub(super) fn run(&self) -> Result<bool, String> {
        let style = Style::of_stdout();
        let Some(interval) = self.watch else {
            let said = self.ask().map_err(|failure| failure.text)?;
            print(&self.shown(&said, None, style))?;
            return Ok(said.is_ok());
        };
        let mut before = None::<(StatusAnswer, Instant)>;
        let mut times = 0;
        loop {
            let at = Instant::now();
            let said = self.ask();
            let since = before.as_ref().map(|(said, then)| (said, at.saturating_duration_since(*then)));
            let mut text = String::new();
            if style.is_terminal() && !self.json {
                // Move to the top, and clear the screen below.
                text.push_str("\x1b[H\x1b[2J");
            }
            match &said {
                Ok(said) => text += &self.shown(said, since, style),
                Err(failure) => text += &self.unreachable(&failure.text, style),
            }
            if print(&text)? {
                return Ok(true);
            }
            times += 1;
            let is_ok = said.as_ref().is_ok_and(StatusAnswer::is_ok);
            if self.count.is_some_and(|count| times >= count) {
                return Ok(is_ok);
            }
            before = said.ok().map(|said| (said, at));
            if pause(interval, true).map_err(|error| format!("cannot wait: {error}"))? {
                return Ok(true);
            }
        }
    }

    fn ask(&self) -> Result<StatusAnswer, Failure> {
        let server = &self.server;
        let answer = server.health()?;
        let object = match serde_json::from_slice(&answer.body) {
            Ok(Value::Object(object)) if object.get("status").is_some_and(Value::is_string) => object,
            _ if answer.status == 200 => {
                return Err(Failure::lasting(format!(
                    "{} answered 200 without a status; is it polecat?",
                    server.name()
                )));
            }
            _ => return Err(server.refusal(answer.status, &answer.body)),
        };
        Ok(StatusAnswer {
            code: answer.status,
            object,
            text: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    fn shown(&self, said: &StatusAnswer, since: Option<(&StatusAnswer, Duration)>, style: Style) -> String {
        let mut out = String::new();
        if self.json {
            style.push_json(&said.text, &mut out);
            out.push('\n');
            return out;
        }
        let status = said.text_of("status");
        style.push(if said.is_ok() { Part::Good } else { Part::Bad }, &excerpt(status), &mut out);
        style.push(Part::Plain, &format!("  {}", self.server.name()), &mut out);
        let reason = said.text_of("reason");
        if !reason.is_empty() {
            style.push(Part::Plain, &format!("  {}", excerpt(reason)), &mut out);
        }
        out.push('\n');
        let known = ORDER.iter().filter_map(|name| said.object.get_key_value(*name));
        let others = said.object.iter().filter(|(name, _)| {
            !ORDER.contains(&name.as_str()) && !["status", "reason"].contains(&name.as_str())
        });
        for (name, value) in known.chain(others) {
            let before = since.and_then(|(said, time)| Some((said.object.get(name)?, time)));
            let words = words_of(name, value, before);
            if !words.is_empty() {
                style.push(Part::Faint, &format!("{:<12}", name.trim_end_matches("_ms")), &mut out);
                style.push(Part::Plain, &format!(" {words}"), &mut out);
                out.push('\n');
            }
        }
        out
    }

    fn unreachable(&self, text: &str, style: Style) -> String {
        let mut out = String::new();
        if self.json {
            let object = serde_json::json!({ "status": "unreachable", "reason": text });
            return format!("{object}\n");
        }
        style.push(Part::Bad, "unreachable", &mut out);
        style.push(Part::Plain, &format!("  {text}"), &mut out);
        out.push('\n');
        out
    }
}

struct StatusAnswer {
    code: u16,
    object: Map<String, Value>,
    text: String,
}

impl StatusAnswer {
    fn is_ok(&self) -> bool {
        self.code == 200 && self.text_of("status") == "ok"
    }

    fn text_of(&self, name: &str) -> &str {
        self.object.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A part of a report, for people. Counters have their rate per second since `before`.
fn words_of(name: &str, value: &Value, before: Option<(&Value, Duration)>) -> String {
    if value.is_null() {
        return String::new();
    }
    let Value::Object(object) = value else { return figure(name, value) };
    let mut words = Vec::new();
    for (key, value) in object {
        if value.is_null() || (SPARSE.contains(&name) && value.as_u64() == Some(0)) {
            continue;
        }
        let mut word = if name == "limits" {
            // A count, whatever the limit's own unit is.
            format!("{} {}", key.replace('_', " "), figure("", value))
        } else {
            let unitless = key.trim_end_matches("_bytes").trim_end_matches("_ms");
            format!("{} {}", unitless.replace('_', " "), figure(key, value))
        };
        if name == "counters"
            && let Some((before, time)) = before
            && let Some(rate) = rate(value.as_u64(), before.get(key).and_then(Value::as_u64), time)
        {
            word += &format!(" ({rate}/s)");
        }
        words.push(word);
    }
    words.join(" · ")
}

fn rate(now: Option<u64>, before: Option<u64>, time: Duration) -> Option<String> {
    let grown = now?.checked_sub(before?)?;
    let rate = grown as f64 / time.as_secs_f64().max(1e-3);
    Some(if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") })
}

/// A value in the unit that its name implies.
fn figure(name: &str, value: &Value) -> String {
    match value.as_u64() {
        Some(number) if name.ends_with("_bytes") => bytes(number),
        Some(number) if name == "uptime_ms" => duration(number / 1000),
        Some(number) if name.ends_with("_ms") => format!("{number} ms"),
        _ => match value {
            Value::String(text) => excerpt(text),
            other => excerpt(&other.to_string()),
        },
    }
}

pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let (mut value, mut unit) = (number as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shown_in_the_units_of_their_names() {
        for (name, json, words) in [
            ("uptime_ms", "90061000", "1 d 1 h"),
            ("memory", r#"{"logs_bytes":2048,"resident_bytes":5}"#, "logs 2.0 KiB · resident 5 B"),
            ("loop", r#"{"stalled_ms":12,"turns":3}"#, "stalled 12 ms · turns 3"),
            ("closed", r#"{"a":0,"b":2}"#, "b 2"),
            ("limits", r#"{"idle_time":1,"log_bytes":77}"#, "idle time 1 · log bytes 77"),
            ("engine", r#"{"epoch":null,"kind":"sq\u001blite"}"#, r"kind sq\u{1b}lite"),
            ("descriptors", "null", ""),
        ] {
            let value = serde_json::from_str(json).unwrap_or(Value::Bool(false));
            assert_eq!(words_of(name, &value, None), words, "{name}");
        }
    }

    #[test]
    fn what_is_counted_has_a_rate() {
        let (now, before) = (serde_json::json!({ "accepted": 25 }), serde_json::json!({ "accepted": 5 }));
        let second = Duration::from_secs(2);
        assert_eq!(words_of("counters", &now, Some((&before, second))), "accepted 25 (10/s)");
        assert_eq!(words_of("counters", &before, Some((&now, second))), "accepted 5");
    }
}
