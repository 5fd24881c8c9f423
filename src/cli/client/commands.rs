//! The commands that talk to a server or look at the machine.

use clap::Subcommand;

use super::{backup, doctor, documents, event, send, status, tail};

/// All commands except those that serve and those that put load on servers.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Client {
    /// Follow a channel or the events, over breaks and restarts
    Tail(tail::Tail),
    /// Send messages to a channel, each stored once
    Send(send::Send),
    /// Publish an event, stored once
    Event(event::Event),
    /// Show the state of a server
    Status(status::Status),
    /// Check what limits a server on this machine, and check its database
    Doctor(doctor::Doctor),
    /// Copy the database while a server uses it
    Backup(backup::Backup),
    /// Print the completions for a shell
    Completions(documents::Completions),
    /// Print the manual
    Man(documents::Man),
}

impl Client {
    /// The mistake in the combination of flags, if any.
    pub(in crate::cli) fn complaint(&self) -> Option<String> {
        match self {
            Self::Tail(tail) => tail.complaint(),
            _ => None,
        }
    }

    /// Runs the command; returns whether the outcome is good. `command` is the whole command line.
    pub(in crate::cli) fn run(&self, command: clap::Command) -> Result<bool, String> {
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
