//! The command line: flags and their environment variables, then `Options`, then the reactor. One line on
//! stderr says what is wrong; the exit status says whether the command line or the environment is at fault.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::Client;
use super::load::{self, Load};
use crate::shell::flags::Serve;
use crate::shell::heap;
use crate::shell::lines::{log_at, say};
use crate::shell::listeners;
use crate::shell::notify::Supervisor;
use crate::shell::reactor::Reactor;
use crate::store::sqlite::descriptors;

/// Live messages for a small machine: WebSocket channels and an event stream,
/// stored in SQLite, resumable.
#[derive(Debug, Parser)]
#[command(
    name = "polecat",
    version,
    max_term_width = 100,
    after_help = "Without a command, polecat runs the server: `polecat --db FILE` \
    is `polecat serve --db FILE`.\nSee `polecat serve --help` for the flags."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; this is also what polecat does without a command
    Serve(Serve),
    /// Put load on a WebSocket server, and check that nothing is lost
    Load(Load),
    #[command(flatten)]
    Client(Client),
}

/// Runs the program: reads the command line, does what it says, and returns the exit status: 0 if all went
/// well, 1 if the environment prevented it (port in use, not a database), 2 if the command line was wrong.
pub fn run() -> ExitCode {
    let args = with_command(std::env::args_os().collect());
    match parse(&args) {
        Ok(Cli { command }) => match do_as_told(command) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(line) => {
                say(&format!("polecat: {line}"));
                ExitCode::FAILURE
            }
        },
        // A command is missing: the list of commands helps.
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say(help.to_string().trim_end());
            ExitCode::from(2)
        }
        Err(error) if error.use_stderr() => {
            say(&format!("polecat: {}; see {} --help", complaint(&error, &args), named_command(&args).1));
            ExitCode::from(2)
        }
        // Help or version: the requested output.
        Err(help) => match help.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from_mut(args).map_err(|error| match error.kind() {
        // The help names all variables.
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Cli::command().try_get_matches_from(args).err().unwrap_or(error)
        }
        _ => error,
    })?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let complaint = match &cli.command {
        Command::Serve(serve) => {
            serve.without_a_file().map(|flag| format!("{flag} needs a file, and --db is off"))
        }
        Command::Load(_) => None,
        Command::Client(client) => client.complaint(),
    };
    match complaint {
        Some(line) => Err(Cli::command().error(ErrorKind::ArgumentConflict, line)),
        None => Ok(cli),
    }
}

/// An empty environment variable counts as unset: service files and containers often set variables that they
/// leave empty.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Returns whether the outcome is good.
fn do_as_told(command: Command) -> Result<bool, String> {
    match command {
        Command::Serve(serve) => serve_until_stopped(&serve).map(|()| true),
        Command::Load(load) => {
            raise_descriptor_limit();
            load::run(load)
        }
        Command::Client(client) => client.run(Cli::command()),
    }
}

/// Without a command, the command is `serve`.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let asks_for_help = |arg: &OsString| ["-h", "--help", "-V", "--version"].iter().any(|flag| arg == flag);
    let is_flag = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-");
    match args.get(1) {
        Some(arg) if !is_flag(arg) || asks_for_help(arg) => {}
        _ => args.insert(args.len().min(1), OsString::from("serve")),
    }
    args
}

fn serve_until_stopped(serve: &Serve) -> Result<(), String> {
    heap::fix_sizes();
    let sockets = listeners::inherited()?;
    let supervisor = Supervisor::from_env()?;
    log_at(serve.log_level).map_err(|error| error.to_string())?;
    let descriptors = raise_descriptor_limit();
    let options = serve.options(descriptors);
    let reactor =
        if sockets.is_empty() { Reactor::start(&options) } else { Reactor::start_on(&options, sockets) };
    let mut reactor = reactor.map_err(|error| error.to_string())?;
    reactor
        .handle_signals()
        .map_err(|error| format!("cannot handle signals: {}", descriptors::explain(&error)))?;
    if let Some(supervisor) = supervisor {
        reactor.report_to(supervisor);
    }
    // A parent process that starts us on port 0 reads this line, whatever the log level is.
    let storing = match &options.database {
        Some(database) => format!("in {}", database.display()),
        None => "nothing (--db off)".to_owned(),
    };
    let places = reactor.local_addrs().iter().map(|addr| format!("http://{addr}"));
    let places = places.collect::<Vec<_>>().join(" and ");
    say(&format!("polecat {} listening on {places} and storing {storing}", env!("CARGO_PKG_VERSION")));
    say(&format!("polecat: {}", serve.room(descriptors)));
    for addr in reactor.local_addrs().iter().filter(|addr| !addr.ip().is_loopback()) {
        say(&format!(
            "polecat: {addr} can be reached from other machines: anyone who reaches it can read and publish"
        ));
    }
    let metrics = reactor.run().map_err(|error| format!("the poll loop failed: {error}"))?;
    log::info!("stopped after {} connections and {} stored records", metrics.accepted, metrics.committed);
    for line in metrics.lines() {
        log::info!("{line}");
    }
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one; returns the limit that applies now.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err()
    {
        log::warn!("the descriptor limit could not be raised");
    }
    getrlimit(Resource::Nofile).current
}

/// The command that was given, with its name, such as `polecat load echo`.
fn named_command(args: &[OsString]) -> (clap::Command, String) {
    let cli = Cli::command();
    let (mut command, mut name) = (&cli, "polecat".to_owned());
    let words = args.iter().skip(1).map_while(|arg| arg.to_str());
    for word in words {
        let Some(next) = command.find_subcommand(word) else { break };
        command = next;
        name = format!("{name} {word}");
    }
    (command.clone(), name)
}

/// The standard library's messages for text that is not an integer, and their meaning for people.
const NO_INTEGER: [(&str, &str); 4] = [
    ("invalid digit found in string", "not a whole number"),
    ("cannot parse integer from empty string", "not a whole number"),
    ("number too large to fit in target type", "too large"),
    ("number too small to fit in target type", "too small"),
];

/// clap's complaint. If the flag was not typed, its variable is wrong.
fn complaint(error: &clap::Error, args: &[OsString]) -> String {
    let mut line = one_line(&error.to_string());
    for (said, meant) in NO_INTEGER {
        line = line.replace(said, meant);
    }
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidArg) else { return line };
    let flag = name.split(' ').next().unwrap_or_default();
    let is_typed = args.iter().any(|arg| arg.as_encoded_bytes().starts_with(flag.as_bytes()));
    match variable_of(flag, args) {
        Some(variable) if !is_typed => line.replace(&format!("'{name}'"), &variable),
        _ => line,
    }
}

/// The variable for a flag of the named command, if it has one.
fn variable_of(flag: &str, args: &[OsString]) -> Option<String> {
    let long = flag.strip_prefix("--")?;
    let command = named_command(args).0;
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long))?;
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// The first paragraph of one of clap's errors, without its "error:" and line breaks.
fn one_line(error: &str) -> String {
    let paragraph = error.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.trim_start_matches("error:").split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        for (given, meant) in [
            (&["polecat"][..], &["polecat", "serve"][..]),
            (&["polecat", "--listen", "x"], &["polecat", "serve", "--listen", "x"]),
            (&["polecat", "serve", "--db", "x"], &["polecat", "serve", "--db", "x"]),
            (&["polecat", "--help"], &["polecat", "--help"]),
            (&["polecat", "-V"], &["polecat", "-V"]),
        ] {
            assert_eq!(with_command(given.iter().map(OsString::from).collect()), meant);
        }
    }

    #[test]
    fn the_examples_are_command_lines() {
        let cli = Cli::command();
        let documents = [
            include_str!("../../README.md"),
            include_str!("../../docs/command-line.md"),
            include_str!("../../docs/load.md"),
        ];
        let mut text = documents.concat().replace("\ntarget/release/", "\n  ");
        let below = cli.get_subcommands().flat_map(clap::Command::get_subcommands);
        for command in cli.get_subcommands().chain(below) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            text += &format!("\n{help}\n");
        }
        let examples = text.lines().filter_map(|line| line.strip_prefix("  polecat")).collect::<Vec<_>>();
        assert!(examples.len() >= 35, "{examples:?}");
        for example in examples {
            // As a shell takes it: without the redirection of the output, and without quotes.
            let plain = example.split(['|', '>', '<']).next().unwrap().replace('\'', "");
            let words = plain.trim_end_matches('&').split_whitespace();
            let args = std::iter::once("polecat").chain(words).map(OsString::from).collect();
            let parsed = parse(&with_command(args));
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
    }

    #[test]
    fn a_command_is_named_as_far_as_there_is_one() {
        for (given, named) in [
            (&["polecat", "load", "echo", "--depth", "0"][..], "polecat load echo"),
            (&["polecat", "load", "fly"], "polecat load"),
            (&["polecat", "serve", "--listen"], "polecat serve"),
            (&["polecat", "fly"], "polecat"),
        ] {
            assert_eq!(named_command(&given.iter().map(OsString::from).collect::<Vec<_>>()).1, named);
        }
    }

    #[test]
    fn errors_are_one_line() {
        assert_eq!(one_line("error: a\n  b\n\nUsage: x"), "a b");
    }
}
