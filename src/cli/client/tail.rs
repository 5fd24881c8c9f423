//! `polecat tail`: follows a channel or the events. The follower knows its position, so that whatever happens
//! to a connection, the next one continues there.

mod follower;
mod many;

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;

use crate::shell::flags::parse_within;
use crate::wire::protocol::Sequence;

use super::backoff::Backoff;
use super::format::Style;
use super::link::{Got, Link};
use super::server::{Failure, ServerFlags};
use super::terminal::{parse_seconds, tell, unread};
use super::wait::Awaited;
use follower::{Follower, FollowerStep};
use many::ManyFollower;

/// The flags of `polecat tail`.
#[derive(Debug, Args)]
#[command(
    after_help = "After a break it reconnects and resumes by itself, even over restarts of the server: nothing is \
    missed or shown twice. If something may be missing, stderr says so. Each message is one line, with control \
    characters shown as escapes.\n\n\
    Examples:\n  \
    polecat tail general\n  \
    polecat tail general random help\n  \
    polecat tail general --events\n  \
    polecat tail general --from beginning\n  \
    polecat tail --json --from event-00042\n  \
    polecat tail general --from beginning -n 10\n  \
    POLECAT_URL=http://127.0.0.1:9000 polecat tail\n\n\
    Exit status: 0 after -n messages, or if nobody reads the output any more; 1 if it cannot continue; 2 for a wrong \
    command line. Ctrl-C ends it."
)]
pub(in crate::cli) struct Tail {
    /// The channel, or several, which share one connection; without any, the events
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,

    /// Follow the events beside the channels, on the same connection
    #[arg(long)]
    events: bool,

    /// Follow a channel that has a `*` in its name: it is not a pattern
    #[arg(long)]
    exact: bool,

    /// The id after which to begin: message-00017, event-00017 or 17; beginning for everything that is kept, now for
    /// new messages only
    #[arg(long, value_name = "ID", default_value = "now", value_parser = parse_from)]
    from: From,

    /// Print each message as it came from the server: a line of JSON
    #[arg(long)]
    json: bool,

    /// End after this many messages
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = parse_count)]
    count: Option<u64>,

    /// Seconds to keep trying if the server cannot be reached [default: for ever after a break, not at all at
    /// the start]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    retry: Option<Duration>,

    /// The longest message to accept, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1024..=1 << 30))]
    max_message_bytes: u32,

    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Now,
    After(u64),
    In(Sequence, u64),
}

fn parse_from(text: &str) -> Result<From, String> {
    let of = |sequence: Sequence| sequence.parse(text).map(|id| From::In(sequence, id));
    let number =
        || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok().map(From::After))?;
    match text {
        "now" => Ok(From::Now),
        "beginning" => Ok(From::After(0)),
        _ => of(Sequence::Messages)
            .or_else(|| of(Sequence::Events))
            .or_else(number)
            .ok_or_else(|| "not an id such as message-00017, nor now or beginning".to_owned()),
    }
}

fn parse_count(text: &str) -> Result<u64, String> {
    parse_within(text, 1.., "a number above 0")
}

/// A follower of one channel or of the events, or of several channels on one connection.
enum Follows {
    One(Follower),
    Many(ManyFollower),
}

impl Follows {
    fn target(&self) -> String {
        match self {
            Self::One(follower) => follower.target(),
            Self::Many(follower) => follower.target(),
        }
    }

    fn take(&mut self, text: &str) -> Result<FollowerStep, Failure> {
        match self {
            Self::One(follower) => follower.take(text),
            Self::Many(follower) => follower.take(text),
        }
    }
}

/// The end: there is nothing more to do.
struct Done;

impl Tail {
    pub(super) fn complaint(&self) -> Option<String> {
        match self.from {
            From::In(sequence, _) if sequence != self.sequence() => Some(match self.channels.first() {
                Some(_) => "--from names an event, and a channel has messages".to_owned(),
                None => "--from names a message, which is on a channel; name the channel too".to_owned(),
            }),
            From::In(..) | From::After(1..) if self.is_many() => {
                Some("--from with an id is for one channel; of several, give beginning or now".to_owned())
            }
            _ if self.channels.iter().any(String::is_empty) => Some("the channel has no name".to_owned()),
            _ if !self.exact && self.channels.iter().any(|name| name.contains('*')) => Some(
                "* is not a pattern: name each channel; --exact follows a channel that has a * in its name"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    pub(super) fn run(&self) -> Result<(), String> {
        let after = match self.from {
            From::Now => None,
            From::After(id) | From::In(_, id) => Some(id),
        };
        let mut follower = if self.is_many() {
            Follows::Many(ManyFollower::new(&self.channels, self.events, after.is_some()))
        } else {
            Follows::One(Follower::new(self.channels.first().map(|name| &**name), after))
        };
        let mut backoff = Backoff::new(self.retry, None);
        let stdout = BufWriter::new(io::stdout().lock());
        let mut shown = Shown {
            out: stdout,
            style: Style::of_stdout(),
            json: self.json,
            is_named: self.is_many(),
            left: self.count,
        };
        loop {
            let failure = match self.follow(&mut follower, &mut backoff, &mut shown) {
                Ok(ended) => return ended.map(|Done| ()),
                Err(failure) => failure,
            };
            let is_unread = shown.flush()?;
            if backoff.wait(&failure, true)? || is_unread {
                return Ok(());
            }
        }
    }

    /// Whether there are several channels, or events beside one.
    const fn is_many(&self) -> bool {
        self.channels.len() + (self.events && !self.channels.is_empty()) as usize > 1
    }

    const fn sequence(&self) -> Sequence {
        if self.channels.is_empty() { Sequence::Events } else { Sequence::Messages }
    }

    /// One connection, until it breaks or everything is done. The inner error is a failure on our side.
    fn follow(
        &self,
        follower: &mut Follows,
        backoff: &mut Backoff,
        shown: &mut Shown<impl Write>,
    ) -> Result<Result<Done, String>, Failure> {
        let mut link = Link::open(&self.server, &follower.target(), self.max_message_bytes as usize)?;
        let mut silence_max = self.server.timeout;
        loop {
            match link.read()? {
                Got::Text(text) => match follower.take(&text)? {
                    FollowerStep::Show => match shown.show(&text) {
                        Ok(false) => backoff.progress(),
                        Ok(true) => {
                            link.close();
                            return Ok(Ok(Done));
                        }
                        Err(line) => return Ok(Err(line)),
                    },
                    FollowerStep::Hello { heartbeat_ms } => {
                        backoff.connected();
                        silence_max = silence_after(heartbeat_ms, self.server.timeout);
                    }
                    FollowerStep::Live => backoff.progress(),
                    FollowerStep::Reconnect { after_ms } => backoff.asked(after_ms),
                    FollowerStep::Tell(line) => tell(&line),
                    FollowerStep::Nothing => {}
                },
                Got::Other => {}
                Got::Nothing => {
                    match shown.flush() {
                        Ok(false) => {}
                        Ok(true) => return Ok(Ok(Done)),
                        Err(line) => return Ok(Err(line)),
                    }
                    link.flush()?;
                    let until = link.heard() + silence_max;
                    if Instant::now() >= until {
                        let (name, seconds) = (self.server.name(), silence_max.as_secs_f64());
                        return Err(Failure::passing(format!("{name} has been silent for {seconds} s")));
                    }
                    if link.wait(Awaited { output: true, ..Awaited::default() }, until)?.is_unread {
                        return Ok(Ok(Done));
                    }
                }
            }
        }
    }
}

/// How long a server must be silent to count as gone: it sends something in every interval.
pub(super) fn silence_after(heartbeat_ms: u64, timeout: Duration) -> Duration {
    const DAY_MS: u64 = 86_400_000;
    Duration::from_millis(heartbeat_ms.min(DAY_MS) * 2) + timeout
}

struct Shown<W> {
    out: W,
    style: Style,
    json: bool,
    /// Whether a message is shown with its channel.
    is_named: bool,
    left: Option<u64>,
}

impl<W: Write> Shown<W> {
    /// Writes one message; returns whether it was the last.
    fn show(&mut self, text: &str) -> Result<bool, String> {
        let mut line = String::with_capacity(text.len() + 16);
        if self.json {
            self.style.push_json(text, &mut line);
        } else {
            follower::write_for_people(text, self.is_named, self.style, &mut line)
                .map_err(|failure| failure.text)?;
        }
        line.push('\n');
        if let Err(error) = self.out.write_all(line.as_bytes()) {
            return unread(&error).map(|()| true);
        }
        let Some(left) = &mut self.left else { return Ok(false) };
        *left -= 1;
        if *left > 0 {
            return Ok(false);
        }
        self.flush().map(|_| true)
    }

    /// Flushes the output; returns whether nobody reads it any more.
    fn flush(&mut self) -> Result<bool, String> {
        match self.out.flush() {
            Ok(()) => Ok(false),
            Err(error) => unread(&error).map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_an_id_or_a_word() {
        for (text, from) in [
            ("now", From::Now),
            ("beginning", From::After(0)),
            ("17", From::After(17)),
            ("message-00017", From::In(Sequence::Messages, 17)),
            ("event-3", From::In(Sequence::Events, 3)),
        ] {
            assert_eq!(parse_from(text), Ok(from), "{text}");
        }
        for wrong in ["", "then", "-1", "+1", "message-", "message-x", "99999999999999999999"] {
            assert!(parse_from(wrong).is_err(), "{wrong}");
        }
    }
}
