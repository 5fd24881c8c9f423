//! `polecat send`: messages to a channel, many in flight at once, each with an idempotency key, so that a
//! message which is sent again after a break is stored once.

mod queue;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use super::backoff::Backoff;
use super::incoming::{Acknowledged, Hello, Incoming, Reconnect, Refused};
use super::lines::{Line, Lines};
use super::link::{Got, Link, SENT_BYTES_MAX};
use super::sent::Moment;
use super::server::{Failure, ServerFlags, excerpt};
use super::tail::silence_after;
use super::terminal::{parse_seconds, tell};
use super::wait::{Awaited, wait};
use queue::{Form, Queue};

/// The sender gets broadcasts too; this bounds the memory for one of them.
const RECEIVED_BYTES_MAX: usize = SENT_BYTES_MAX;

/// The most messages that are read before our own are sent.
const READS_MAX: u64 = 64;

/// How long to keep trying by default.
const PATIENCE: Duration = Duration::from_secs(30);

/// The flags of `polecat send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a text, each line of standard input is a message. The id of each message is printed once it is \
    stored. After a break it reconnects and sends unacknowledged messages again, with the same idempotency keys, so \
    that the server stores each once. If the server may have forgotten the key of a message, the message is not sent \
    again: it may or may not be stored.\n\n\
    Examples:\n  \
    polecat send general hello\n  \
    polecat send general --author ann --lane ops hello\n  \
    journalctl -f -u nginx | polecat send logs --quiet\n  \
    polecat send jobs --idempotency-key nightly-2026-11-25 done\n\n\
    Exit status: 0 if everything is stored; 1 if something is not, or that is unknown (stderr says what); 2 for a wrong command line."
)]
pub(in crate::cli) struct Send {
    /// The channel
    #[arg(value_name = "CHANNEL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    channel: String,

    /// The message; without it, each line of standard input is one
    #[arg(value_name = "TEXT")]
    text: Option<String>,

    #[command(flatten)]
    form: Form,

    /// The idempotency key, under which the server stores the message only once within its --idempotency-window;
    /// if lines are sent, - and the number of the line are added [default: a new one]
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,

    /// Messages in flight at once; with 1, the order is kept even if the store refuses a message for a time
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    window: u16,

    /// Do not print ids
    #[arg(short, long)]
    quiet: bool,

    /// Seconds to keep trying if the server cannot be reached or cannot store [default: 30 after a break, not at
    /// all at the start]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    retry: Option<Duration>,

    #[command(flatten)]
    server: ServerFlags,
}

/// A key leaves room for the number of a line.
pub(super) fn parse_key(text: &str) -> Result<String, String> {
    if (1..=230).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("not 1 to 230 bytes without control characters".to_owned())
    }
}

impl Send {
    pub(super) fn run(&self) -> Result<bool, String> {
        let key = self.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut queue = Queue::new(self.form.clone(), key, usize::from(self.window));
        let lines = match &self.text {
            Some(text) => {
                queue.push_only(text);
                None
            }
            None => {
                if io::stdin().is_terminal() {
                    tell("each line that you type is a message; Ctrl-D ends it");
                }
                Some(Lines::default())
            }
        };
        let mut sending = Sending {
            send: self,
            queue,
            lines,
            backoff: Backoff::new(self.retry, Some(PATIENCE)),
            message_bytes_max: 0,
            memory: Duration::ZERO,
            paused: None,
            prints: !self.quiet,
        };
        sending.run()
    }
}

struct Sending<'s> {
    send: &'s Send,
    queue: Queue,
    /// Standard input, if its lines are sent.
    lines: Option<Lines>,
    backoff: Backoff,
    /// The largest message that the server accepts, as it has said; nothing is read before that.
    message_bytes_max: usize,
    /// For how long the server remembers a key, as it has said.
    memory: Duration,
    /// Nothing is sent before this time, since the store does not work.
    paused: Option<Instant>,
    prints: bool,
}

impl Sending<'_> {
    fn run(&mut self) -> Result<bool, String> {
        loop {
            let failure = match self.connection() {
                Ok(()) => return Ok(self.queue.refused() == 0),
                Err(failure) => failure,
            };
            self.queue.send_all_again();
            if failure.is_hasty {
                // Some must be answered before there are too many, or it would never make progress.
                self.queue.halve_window();
            }
            self.paused = None;
            if failure.is_passing && self.message_bytes_max > 0 && self.queue.is_empty() {
                // Nothing is outstanding: it is enough to connect when there is something to send.
                tell(&format!("{}; reconnecting when there is something to send", failure.text));
                self.wait_for_lines()?;
                if self.is_done() {
                    return Ok(self.queue.refused() == 0);
                }
                continue;
            }
            self.backoff.wait(&failure, false).map_err(|line| self.last_words(line))?;
        }
    }

    /// The line to end with, and how far the run has got.
    fn last_words(&self, line: String) -> String {
        match self.queue.first() {
            Some(number) if self.lines.is_some() => {
                format!("{line}; line {number} and those after it may not be stored")
            }
            Some(_) if self.queue.is_doubtful() => format!("the message may or may not be stored: {line}"),
            _ => line,
        }
    }

    fn is_done(&self) -> bool {
        self.queue.is_empty() && self.lines.as_ref().is_none_or(Lines::is_over)
    }

    /// One connection, until it breaks or everything is stored.
    fn connection(&mut self) -> Result<(), Failure> {
        let channel = utf8_percent_encode(&self.send.channel, NON_ALPHANUMERIC);
        let server = &self.send.server;
        let mut link = Link::open(server, &format!("/api/ws/{channel}"), RECEIVED_BYTES_MAX)?;
        let mut silence_max = None;
        for turn in 1_u64.. {
            let is_idle = match link.read()? {
                Got::Text(text) => {
                    self.take(&text, &mut silence_max)?;
                    false
                }
                Got::Other => false,
                Got::Nothing => true,
            };
            // Even if others send much, it is our turn now.
            if !is_idle && !turn.is_multiple_of(READS_MAX) {
                continue;
            }
            if silence_max.is_some() {
                self.fill_and_send(&mut link)?;
            }
            link.flush()?;
            if silence_max.is_some() && self.is_done() {
                break;
            }
            if is_idle {
                self.wait(&link, silence_max)?;
            }
        }
        link.close();
        Ok(())
    }

    /// When the server has been silent for too long.
    fn deadline(&self, link: &Link<'_>, silence_max: Option<Duration>) -> Instant {
        let timeout = self.send.server.timeout;
        match (self.queue.answered(), silence_max) {
            // An answer is outstanding.
            (Some(answered), _) => answered.max(link.sent()) + timeout,
            (None, silence_max) => link.heard() + silence_max.unwrap_or(timeout),
        }
    }

    fn wait(&mut self, link: &Link<'_>, silence_max: Option<Duration>) -> Result<(), Failure> {
        let deadline = self.deadline(link, silence_max);
        if Instant::now() >= deadline {
            return Err(self.send.server.silent());
        }
        let until = self.paused.map_or(deadline, |paused| paused.min(deadline));
        let input = silence_max.is_some() && self.wants_lines();
        let woken = link.wait(Awaited { input, ..Awaited::default() }, until)?;
        if woken.input {
            self.read_lines().map_err(Failure::lasting)?;
        }
        Ok(())
    }

    fn wants_lines(&self) -> bool {
        self.queue.has_room() && self.lines.as_ref().is_some_and(Lines::wants_more)
    }

    /// Waits only for standard input.
    fn wait_for_lines(&mut self) -> Result<(), String> {
        while self.queue.is_empty() && !self.is_done() {
            if self.wants_lines() {
                let awaited = Awaited { input: true, ..Awaited::default() };
                let woken = wait(awaited, None).map_err(|error| format!("cannot wait: {error}"))?;
                if woken.input {
                    self.read_lines()?;
                }
            }
            self.fill();
        }
        Ok(())
    }

    /// Takes in the available standard input. It is read only if there is some, so that reading never blocks.
    fn read_lines(&mut self) -> Result<(), String> {
        let Some(lines) = &mut self.lines else { return Ok(()) };
        let mut stdin = io::stdin().lock();
        let len = match stdin.fill_buf() {
            Ok(bytes) => {
                lines.feed(bytes, self.message_bytes_max);
                bytes.len()
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => 0,
            Err(error) => return Err(format!("standard input cannot be read: {error}")),
        };
        stdin.consume(len);
        Ok(())
    }

    fn fill_and_send(&mut self, link: &mut Link<'_>) -> Result<(), Failure> {
        loop {
            let refused = self.queue.refused();
            self.fill();
            self.send_some(link)?;
            // Refused messages make room for more.
            if self.queue.refused() == refused {
                return Ok(());
            }
        }
    }

    /// Turns lines into messages.
    fn fill(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        while self.queue.has_room() {
            let Some((number, line)) = lines.next() else { return };
            let max = self.message_bytes_max;
            match line {
                Line::Text(text) => self.queue.push(number, &text),
                Line::NotUtf8 => self.queue.refuse(&format!("line {number} is not UTF-8; it is not sent")),
                Line::TooLong => {
                    self.queue.refuse(&format!(
                        "line {number} is longer than the {max} bytes that the server accepts"
                    ));
                }
            }
        }
    }

    fn send_some(&mut self, link: &mut Link<'_>) -> Result<(), Failure> {
        if self.paused.is_some_and(|paused| Instant::now() < paused) {
            return Ok(());
        }
        self.paused = None;
        while !link.has_unsent() {
            let Some(text) = self.queue.next_to_send(self.message_bytes_max, self.memory, Moment::now())
            else {
                return Ok(());
            };
            link.send(text)?;
        }
        Ok(())
    }

    fn take(&mut self, text: &str, silence_max: &mut Option<Duration>) -> Result<(), Failure> {
        let incoming = Incoming::parse(text)?;
        match &*incoming.kind {
            "hello" => {
                let hello = incoming.payload::<Hello>()?;
                self.backoff.connected();
                let max = usize::try_from(hello.message_bytes_max).unwrap_or(usize::MAX);
                self.message_bytes_max = max.clamp(1, SENT_BYTES_MAX);
                self.memory = Duration::from_millis(hello.idempotency_window_ms);
                *silence_max = Some(silence_after(hello.heartbeat_interval_ms, self.send.server.timeout));
            }
            "ack" => {
                let ack = incoming.payload::<Acknowledged>()?;
                if ack.id.is_some_and(|id| self.queue.stored(id)) {
                    self.backoff.progress();
                    self.print(&excerpt(&ack.event_id));
                }
            }
            "error" => self.refused(&incoming.payload::<Refused>()?)?,
            "reconnect" => self.backoff.asked(incoming.payload::<Reconnect>()?.after_ms),
            _ => {}
        }
        Ok(())
    }

    fn refused(&mut self, refused: &Refused) -> Result<(), Failure> {
        let message = excerpt(&refused.message);
        let Some(id) = refused.id else {
            return Err(Failure::lasting(format!("{} refused it: {message}", self.send.server.name())));
        };
        if refused.code != "store_unavailable" {
            self.queue.refused_for_good(id, &message);
            return Ok(());
        }
        self.queue.refused_for_now(id);
        if self.paused.is_none() {
            let failure = Failure::passing(message);
            // If this gives up, no other connection is tried.
            let wait = self.backoff.announce(&failure).map_err(Failure::lasting)?;
            self.paused = Some(Instant::now() + wait);
        }
        Ok(())
    }

    fn print(&mut self, id: &str) {
        if self.prints && writeln!(io::stdout(), "{id}").is_err() {
            // Nobody reads the ids. The messages are sent nevertheless.
            self.prints = false;
        }
    }
}
