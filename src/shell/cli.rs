//! The command line: flags and their environment variables, then [`Options`],
//! then the reactor. One line on stderr says what is wrong, an exit status whose fault it is.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use simple_logger::SimpleLogger;

use crate::ground::config::{Config, HEARTBEAT_INTERVAL_MS_MAX, Limits, Timeouts};

use super::options::Options;
use super::reactor::Reactor;
use super::sqlite::StoreOptions;

/// Live messages for a small machine: WebSocket channels and an event stream,
/// stored in SQLite, resumable.
#[derive(Debug, Parser)]
#[command(name = "polecat", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server; the same as no command at all
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// Address to listen on; port 0 is any free port
    #[arg(long, value_name = "ADDR:PORT", env = "POLECAT_LISTEN", default_value = "127.0.0.1:8010")]
    #[arg(value_parser = parse_addr)]
    listen: SocketAddr,

    /// SQLite file that keeps every message; made where there is none
    #[arg(long = "db", value_name = "FILE", env = "POLECAT_DB", default_value = "polecat.db")]
    database: PathBuf,

    /// Seconds between heartbeats, fractions allowed; a client silent for two of them is closed
    #[arg(long, value_name = "SECONDS", env = "POLECAT_HEARTBEAT_INTERVAL", default_value = "25")]
    #[arg(value_parser = parse_interval_ms)]
    heartbeat_interval: u32,

    /// Largest message, and largest request body, in bytes
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_MESSAGE_BYTES", default_value = "1048576")]
    #[arg(value_parser = parse_message_bytes)]
    max_message_bytes: usize,

    /// What is logged on stderr: off, error, warn, info or debug
    #[arg(long, value_name = "LEVEL", env = "POLECAT_LOG_LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

impl Serve {
    fn options(&self) -> Options {
        Options {
            listen: self.listen,
            database: self.database.clone(),
            config: Config {
                limits: Limits { message_bytes_max: self.max_message_bytes, ..Limits::default() },
                timeouts: Timeouts { heartbeat_interval_ms: self.heartbeat_interval, ..Timeouts::default() },
                ..Config::default()
            },
            store: StoreOptions::default(),
        }
    }
}

/// Runs the program: reads the command line, does what it says, and returns the
/// exit status: 0 where all went well, 1 where the world was against it, 2 where
/// the command line was wrong.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::try_parse_from(with_command(std::env::args_os().collect())) {
        Ok(Cli { command: Command::Serve(serve) }) => match serve_until_stopped(&serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => {
                say(&format!("polecat: {line}"));
                ExitCode::FAILURE
            }
        },
        Err(error) if error.use_stderr() => {
            say(&format!("polecat: {}; see polecat --help", one_line(&error.to_string())));
            ExitCode::from(2)
        }
        // Help and version: what was asked for.
        Err(help) => match help.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Where no command is named, it is `serve`.
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
    SimpleLogger::new().with_level(serve.log_level).init().map_err(|error| error.to_string())?;
    let options = serve.options();
    let descriptors = raise_descriptor_limit();
    let mut reactor = Reactor::start(&options).map_err(|error| error.to_string())?;
    reactor.handle_signals().map_err(|error| format!("cannot handle signals: {error}"))?;
    let addr = reactor.local_addr();
    // Whoever starts us on port 0 reads this line, whatever is logged.
    say(&format!(
        "polecat {} listening on http://{addr} and storing in {}",
        env!("CARGO_PKG_VERSION"),
        options.database.display()
    ));
    if let Some(descriptors) = descriptors {
        log::info!("at most {descriptors} descriptors, one for each connection");
    }
    if !addr.ip().is_loopback() {
        log::warn!("{addr} can be reached from other machines: whoever reaches it may read and publish");
    }
    let metrics = reactor.run().map_err(|error| format!("the poll loop has failed: {error}"))?;
    log::info!("stopped after {} connections and {} stored records", metrics.accepted, metrics.committed);
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one; returns what binds now.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err()
    {
        log::warn!("the limit of descriptors could not be raised");
    }
    getrlimit(Resource::Nofile).current
}

#[expect(clippy::print_stderr, reason = "the command line is where we talk to people")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// The first paragraph of an error of clap, without its "error:" and line breaks.
fn one_line(error: &str) -> String {
    let paragraph = error.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.trim_start_matches("error:").split_whitespace().collect();
    words.join(" ")
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let mut addrs = text.to_socket_addrs().map_err(|_| "not of the form ADDRESS:PORT".to_owned())?;
    addrs.next().ok_or_else(|| "the name has no address".to_owned())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn parse_interval_ms(text: &str) -> Result<u32, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let milliseconds = seconds * 1000.0;
    if (10.0..=f64::from(HEARTBEAT_INTERVAL_MS_MAX)).contains(&milliseconds) {
        Ok(milliseconds as u32)
    } else {
        Err("not between 0.01 seconds and one day".to_owned())
    }
}

fn parse_message_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (1..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("not a number of bytes between 1 and 1073741824".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

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
    fn errors_are_one_line() {
        assert_eq!(one_line("error: a\n  b\n\nUsage: x"), "a b");
    }

    #[test]
    fn intervals_have_fractions_and_bounds() {
        assert_eq!(parse_interval_ms("0.25"), Ok(250));
        assert_eq!(parse_interval_ms("25"), Ok(25_000));
        for wrong in ["0", "-1", "nan", "inf", "x", "86401"] {
            assert!(parse_interval_ms(wrong).is_err(), "{wrong}");
        }
    }
}
