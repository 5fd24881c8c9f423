//! The flags of `polecat serve`, each with an environment variable, and what
//! they come to.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use log::LevelFilter;

use crate::base::config::{
    Compression, Config, HEAD_FIELDS_CAP, HEARTBEAT_INTERVAL_MS_MAX, Limits, Timeouts,
};
use crate::base::origin::AllowedOrigins;

use super::options::Options;
use crate::store::sqlite::{self, StoreOptions};

/// The flags of `polecat serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 is any free port, and the start tells which; not used where systemd hands sockets
    /// on (LISTEN_FDS)
    #[arg(long, value_name = "ADDR:PORT", env = "POLECAT_LISTEN", default_value = "127.0.0.1:8010")]
    #[arg(value_parser = parse_addr)]
    listen: SocketAddr,

    /// Lets pages of an origin connect, beside those of the server's own host and port, and those on
    /// loopback where the request is for loopback, too: SCHEME://HOST[:PORT], file:// or null for pages from
    /// files (null for others without an origin, too), or * for all; several times, or separated by commas
    #[arg(long = "allow-origin", value_name = "ORIGIN", env = "POLECAT_ALLOW_ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = parse_origin)]
    allow_origins: Vec<String>,

    /// What is logged on stderr: off, error, warn, info or debug
    #[arg(long, value_name = "LEVEL", env = "POLECAT_LOG_LEVEL", default_value = "info")]
    #[arg(value_parser = parse_level)]
    pub(crate) log_level: LevelFilter,

    /// Leaves out the console, the page at /
    #[arg(long, env = "POLECAT_NO_CONSOLE", value_parser = clap::builder::FalseyValueParser::new())]
    no_console: bool,

    /// Compresses messages that are longer, for clients that take it (permessage-deflate); 0 is none, up to 1073741824
    #[arg(long, value_name = "BYTES", env = "POLECAT_COMPRESS_OVER", default_value = "256")]
    #[arg(value_parser = parse_bytes_or_none)]
    compress_over: usize,

    #[command(flatten)]
    store: Store,

    #[command(flatten)]
    times: Times,

    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
struct Store {
    /// The SQLite file, relative to the current folder, made where there is none; off stores nothing and
    /// keeps the newest in memory only (a file of that name is ./off)
    #[arg(long = "db", value_name = "FILE", env = "POLECAT_DB", default_value = "polecat.db")]
    database: PathBuf,

    /// What was answered survives, with normal, the end of the process; with full, a power cut, too: every
    /// commit waits for the disk
    #[arg(long, value_name = "LEVEL", env = "POLECAT_DURABILITY", default_value = "normal")]
    durability: Durability,

    /// Messages to keep, over all channels [default: all]
    #[arg(long, value_name = "COUNT", env = "POLECAT_RETAIN_MESSAGES")]
    #[arg(value_parser = parse_kept, allow_negative_numbers = true)]
    retain_messages: Option<u64>,

    /// Events to keep
    #[arg(long, value_name = "COUNT", env = "POLECAT_RETAIN_EVENTS", default_value = "10000")]
    #[arg(value_parser = parse_kept, allow_negative_numbers = true)]
    retain_events: u64,

    /// Days for which both are kept, up to 36500, fractions allowed [default: for ever]
    #[arg(long, value_name = "DAYS", env = "POLECAT_RETAIN_DAYS")]
    #[arg(value_parser = parse_days, allow_negative_numbers = true)]
    retain_days: Option<f64>,

    /// How long an idempotency key is remembered, 0.01 to 86400
    #[arg(long, value_name = "SECONDS", env = "POLECAT_IDEMPOTENCY_WINDOW", default_value = "300")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    idempotency_window: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Durability {
    Normal,
    Full,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Times, in seconds, 0.01 to 86400")]
struct Times {
    /// Between heartbeats; a client that is silent for two and a half of them is closed
    #[arg(long, value_name = "SECONDS", env = "POLECAT_HEARTBEAT_INTERVAL", default_value = "25")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    heartbeat_interval: u32,

    /// From a connect to the end of its first request
    #[arg(long, value_name = "SECONDS", env = "POLECAT_HANDSHAKE_TIMEOUT", default_value = "10")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    handshake_timeout: u32,

    /// From the beginning of a later request to its end
    #[arg(long, value_name = "SECONDS", env = "POLECAT_REQUEST_TIMEOUT", default_value = "10")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    request_timeout: u32,

    /// Between two requests on one connection
    #[arg(long, value_name = "SECONDS", env = "POLECAT_IDLE_TIMEOUT", default_value = "75")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    idle_timeout: u32,

    /// For connections to end after SIGTERM
    #[arg(long, value_name = "SECONDS", env = "POLECAT_DRAIN", default_value = "5")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    drain: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits; bytes are 1 to 1073741824")]
struct Bounds {
    /// Connections at once; never more than the default, which the start tells [default: descriptors less
    /// 32]
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CONNECTIONS", value_parser = parse_count)]
    max_connections: Option<usize>,

    /// Connections at once from one address (of IPv6, from one /64); 0 is no limit, since behind a proxy
    /// all come from one address
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 0)]
    max_connections_per_address: u32,

    /// Memory that the process may have in use before new connections are turned away, with K, M or G for
    /// powers of 1024 [default: no limit]
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_MEMORY", value_parser = parse_memory)]
    max_memory: Option<u64>,

    /// Channels with somebody on them
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CHANNELS", default_value = "100000")]
    #[arg(value_parser = parse_count)]
    max_channels: usize,

    /// Messages from one connection in a second, POSTs too; 0 is no limit
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_MESSAGES_PER_SECOND", default_value_t = 0)]
    max_messages_per_second: u32,

    /// One WebSocket message, all fragments together
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_MESSAGE_BYTES", default_value = "1048576")]
    #[arg(value_parser = parse_bytes)]
    max_message_bytes: usize,

    /// One request body [default: as a message]
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_BODY_BYTES")]
    #[arg(value_parser = parse_bytes)]
    max_body_bytes: Option<usize>,

    /// Request line and header fields
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_HEADER_BYTES", default_value = "16384")]
    #[arg(value_parser = parse_bytes)]
    max_header_bytes: usize,

    /// Header fields, up to 256
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_HEADER_FIELDS", default_value = "64")]
    #[arg(value_parser = parse_fields)]
    max_header_fields: usize,

    /// A request target
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_TARGET_BYTES", default_value = "8192")]
    #[arg(value_parser = parse_bytes)]
    max_target_bytes: usize,

    /// The name of a channel, and the type of an event
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_CHANNEL_NAME_BYTES", default_value = "200")]
    #[arg(value_parser = parse_bytes)]
    max_channel_name_bytes: usize,

    /// Newest messages of one channel in memory; older ones are read from the file
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_LOG_BYTES", default_value = "2097152")]
    #[arg(value_parser = parse_bytes)]
    max_log_bytes: usize,

    /// The same over all channels
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_LOGS_BYTES", default_value = "16777216")]
    #[arg(value_parser = parse_bytes)]
    max_logs_bytes: usize,

    /// Memory for unfinished messages and requests of all connections; up to twice what they
    /// have sent
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_INBOX_BYTES", default_value = "67108864")]
    #[arg(value_parser = parse_bytes)]
    max_inbox_bytes: usize,

    /// What all connections have yet to be sent, beside 16 KiB of each; beyond it, who would add to it is
    /// not read
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_UNSENT_BYTES", default_value = "67108864")]
    #[arg(value_parser = parse_bytes)]
    max_unsent_bytes: usize,

    /// The same of one connection; beyond it, it is not read
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_OUTBOX_BYTES", default_value = "65536")]
    #[arg(value_parser = parse_bytes)]
    max_outbox_bytes: usize,
}

impl Serve {
    /// Which flag asks for something that nothing but a file can do, where there is none.
    pub(crate) fn without_a_file(&self) -> Option<&'static str> {
        let store = &self.store;
        match (store.database(), store.durability, store.retain_days) {
            (None, Durability::Full, _) => Some("--durability full"),
            (None, _, Some(_)) => Some("--retain-days"),
            _ => None,
        }
    }

    /// What the flags come to, with at most `descriptors_max` descriptors.
    pub(crate) fn options(&self, descriptors_max: Option<u64>) -> Options {
        let mut origins = AllowedOrigins::default();
        for origin in &self.allow_origins {
            // Each has passed `parse_origin`.
            let added = origins.add(origin);
            debug_assert!(added.is_ok());
        }
        Options {
            listen: self.listen,
            database: self.store.database(),
            store: self.store.options(),
            config: Config {
                limits: self.bounds.limits(descriptors_max),
                timeouts: self.times.timeouts(),
                origins,
                no_console: self.no_console,
                compression: Compression { over: self.compress_over },
                ..Config::default()
            },
        }
    }
}

impl Serve {
    /// How many connections there may be, what binds that, and what would raise it where it is less than was asked for.
    pub(crate) fn room(&self, descriptors_max: Option<u64>) -> String {
        let room = self.bounds.limits(descriptors_max).connections_max;
        let Some(descriptors) = descriptors_max else {
            return match self.bounds.max_connections {
                Some(asked) => format!("at most {asked} connections"),
                None => "no limit on connections: the system has none on descriptors".to_owned(),
            };
        };
        match self.bounds.max_connections.filter(|asked| *asked > room) {
            None => format!("at most {room} connections; the system allows {descriptors} descriptors"),
            Some(asked) => format!(
                "at most {room} connections, not the {asked} of --max-connections, since the system allows \
                 {descriptors} descriptors; that takes a hard limit of {} (ulimit -Hn, or LimitNOFILE= of systemd)",
                (asked as u64).saturating_add(DESCRIPTORS_RESERVED)
            ),
        }
    }
}

impl Store {
    fn database(&self) -> Option<PathBuf> {
        (self.database.as_os_str() != "off").then(|| self.database.clone())
    }

    fn options(&self) -> StoreOptions {
        StoreOptions {
            durability: match self.durability {
                Durability::Normal => sqlite::Durability::Normal,
                Durability::Full => sqlite::Durability::Full,
            },
            retain_messages: self.retain_messages,
            retain_events: Some(self.retain_events),
            retain_days: self.retain_days,
            idempotency_window_ms: u64::from(self.idempotency_window),
        }
    }
}

impl Times {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            heartbeat_interval_ms: self.heartbeat_interval,
            handshake_ms: self.handshake_timeout,
            request_ms: self.request_timeout,
            keep_alive_ms: self.idle_timeout,
            drain_ms: self.drain,
            ..Timeouts::default()
        }
    }
}

/// Descriptors that are not for connections: the poll, the listener, the signals,
/// the database with its log, and a few for those who are being turned away.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 32;

impl Bounds {
    fn limits(&self, descriptors_max: Option<u64>) -> Limits {
        let possible =
            descriptors_max.map_or(u64::MAX, |max| max.saturating_sub(DESCRIPTORS_RESERVED).max(1));
        let possible = usize::try_from(possible).unwrap_or(usize::MAX);
        Limits {
            connections_max: self.max_connections.unwrap_or(usize::MAX).min(possible),
            connections_per_source_max: self.max_connections_per_address,
            resident_bytes_max: self.max_memory.unwrap_or(0),
            channels_max: self.max_channels,
            messages_per_second_max: self.max_messages_per_second,
            message_bytes_max: self.max_message_bytes,
            body_bytes_max: self.max_body_bytes.unwrap_or(self.max_message_bytes),
            head_bytes_max: self.max_header_bytes,
            head_fields_max: self.max_header_fields,
            target_bytes_max: self.max_target_bytes,
            channel_name_bytes_max: self.max_channel_name_bytes,
            log_bytes_max: self.max_log_bytes,
            logs_bytes_max: self.max_logs_bytes,
            inboxes_bytes_max: self.max_inbox_bytes,
            outboxes_bytes_max: self.max_unsent_bytes,
            outbox_bytes_max: self.max_outbox_bytes,
            ..Limits::default()
        }
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "not one of off, error, warn, info and debug".to_owned())
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let example = "not an address and a port, such as 127.0.0.1:8010";
    let mut addrs = text.to_socket_addrs().map_err(|_| example.to_owned())?;
    addrs.next().ok_or_else(|| "the name has no address".to_owned())
}

fn parse_origin(text: &str) -> Result<String, String> {
    let added = AllowedOrigins::default().add(text);
    added.map(|()| text.to_owned()).map_err(|error| error.to_string())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn parse_ms(text: &str) -> Result<u32, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let milliseconds = seconds * 1000.0;
    if (10.0..=f64::from(HEARTBEAT_INTERVAL_MS_MAX)).contains(&milliseconds) {
        Ok(milliseconds as u32)
    } else {
        Err("not between 0.01 seconds and one day".to_owned())
    }
}

fn parse_days(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(days) if days > 0.0 && days <= 36_500.0 => Ok(days),
        _ => Err("not a number of days between 0 and 36500".to_owned()),
    }
}

/// Nobody who keeps nothing means it: where other flags say zero for no limit, here all would be deleted.
fn parse_kept(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a number above 0".to_owned()),
    }
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if (1..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("not a number of bytes between 1 and 1073741824".to_owned()),
    }
}

fn parse_bytes_or_none(text: &str) -> Result<usize, String> {
    if text == "0" {
        Ok(0)
    } else {
        parse_bytes(text).map_err(|_| "not a number of bytes between 0 and 1073741824".to_owned())
    }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes =
        digits.parse::<u64>().ok().filter(|count| *count > 0).and_then(|count| count.checked_mul(1 << shift));
    bytes.ok_or_else(|| "not a number of bytes above 0, such as 400M".to_owned())
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("not a number above 0".to_owned()),
    }
}

fn parse_fields(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(fields) if (1..=HEAD_FIELDS_CAP).contains(&fields) => Ok(fields),
        _ => Err(format!("not a number between 1 and {HEAD_FIELDS_CAP}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    #[test]
    fn times_have_fractions_and_bounds() {
        assert_eq!(parse_ms("0.25"), Ok(250));
        assert_eq!(parse_ms("25"), Ok(25_000));
        for wrong in ["0", "-1", "nan", "inf", "x", "86401"] {
            assert!(parse_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_room_is_what_binds() {
        let room = |args: &[&str], descriptors| {
            let command = Serve::augment_args(clap::Command::new("serve"));
            let matches = command.try_get_matches_from([&["serve"], args].concat());
            let serve = matches.and_then(|matches| Serve::from_arg_matches(&matches));
            serve.map_or_else(|error| error.to_string(), |serve| serve.room(descriptors))
        };
        assert_eq!(room(&[], Some(1000)), "at most 968 connections; the system allows 1000 descriptors");
        assert_eq!(room(&["--max-connections", "9"], None), "at most 9 connections");
        let asked = ["--max-connections", "9"];
        assert_eq!(room(&asked, Some(64)), "at most 9 connections; the system allows 64 descriptors");
        let asked = ["--max-connections", "33"];
        let cut = room(&asked, Some(64));
        assert!(cut.starts_with("at most 32 connections, not the 33 ") && cut.contains(" 65 ("), "{cut}");
        assert!(room(&[], None).starts_with("no limit"));
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(parse_bytes("1048576"), Ok(1 << 20));
        for wrong in ["0", "-1", "1073741825", "1k", ""] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_memory("3"), Ok(3));
        assert_eq!(parse_memory("3k"), Ok(3 << 10));
        assert_eq!(parse_memory("400M"), Ok(400 << 20));
        assert_eq!(parse_memory("2G"), Ok(2 << 30));
        for wrong in ["0", "-1", "", "M", "1.5G", "99999999999G", "400MB", "400 M"] {
            assert!(parse_memory(wrong).is_err(), "{wrong}");
        }
        assert!(parse_fields("257").is_err());
        assert!(parse_count("0").is_err());
    }
}
