//! The command line's other side: what talks to a running server, and what looks at the machine it is to run
//! on. One thread, no runtime: sockets that never block, and `poll`.

mod show;
mod server;
mod again;
mod sent;
mod wait;
mod link;
mod incoming;
mod tail;
mod lines;
mod send;
mod event;
mod status;
mod doctor;
mod backup;
mod documents;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Subcommand;

/// The commands, beside those that serve and put load on servers.
#[derive(Debug, Subcommand)]
pub(super) enum Client {
    /// Follow a channel, or the events, over breaks and restarts
    Tail(tail::Tail),
    /// Send messages to a channel, each stored once
    Send(send::Send),
    /// Publish an event, stored once
    Event(event::Event),
    /// Ask a server how it is
    Status(status::Status),
    /// Look at what limits a server on this machine, and at its database
    Doctor(doctor::Doctor),
    /// Copy the database while a server uses it
    Backup(backup::Backup),
    /// Print the completions for a shell
    Completions(documents::Completions),
    /// Print the manual
    Man(documents::Man),
}

impl Client {
    /// What is wrong with the flags together.
    pub(super) fn complaint(&self) -> Option<String> {
        match self {
            Self::Tail(tail) => tail.complaint(),
            _ => None,
        }
    }

    /// Does it; returns whether what came of it is good. `command` is the whole command line.
    ///
    /// # Errors
    /// A line that says what is wrong and what to do.
    pub(super) fn run(&self, command: clap::Command) -> Result<bool, String> {
        match self {
            Self::Tail(tail) => tail.run().map(|()| true),
            Self::Send(send) => send.run(),
            Self::Event(event) => event.run().map(|()| true),
            Self::Status(status) => status.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Backup(backup) => backup.run().map(|()| true),
            Self::Completions(completions) => completions.run(command).map(|()| true),
            Self::Man(man) => man.run(command).map(|()| true),
        }
    }
}

/// Says it on stderr. Who does not read that misses it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "polecat: {line}");
}

/// Writes what was asked for to stdout; returns whether nobody reads it any more.
fn print(text: &str) -> Result<bool, String> {
    match crate::shell::lines::print(text) {
        Ok(()) => Ok(false),
        Err(error) => unread(&error).map(|()| true),
    }
}

/// A reader that has gone is no error.
fn unread(error: &io::Error) -> Result<(), String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(format!("standard output cannot be written: {error}")),
    }
}

/// Seconds, fractions allowed, up to a hundred days.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=8_640_000.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds between 0 and 8640000".to_owned()),
    }
}
