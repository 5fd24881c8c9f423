//! The flags of `polecat serve`, each with an environment variable, and the options that they make.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use log::LevelFilter;

use crate::base::config::{
    Compression, Config, HEAD_FIELDS_CAP, HEARTBEAT_INTERVAL_MS_MAX, Limits, Timeouts,
};
use crate::base::origin::AllowedOrigins;

use super::options::Options;
use crate::store::sqlite::{Durability, StoreOptions};

/// The flags of `polecat serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port to listen on; port 0 picks a free port, which is printed at the start; not used if
    /// systemd hands over sockets (LISTEN_FDS)
    #[arg(long, value_name = "ADDR:PORT", env = "POLECAT_LISTEN", default_value = "127.0.0.1:8010")]
    #[arg(value_parser = parse_addr)]
    listen: SocketAddr,

    /// Allow pages of another origin to connect: SCHEME://HOST[:PORT], file:// or null for pages from files
    /// (null also for other pages without an origin), or * for all; can be given several times, or separated by
    /// commas. Pages of the server's own host and port are always allowed, and so are pages on loopback if the
    /// request is for loopback
    #[arg(long = "allow-origin", value_name = "ORIGIN", env = "POLECAT_ALLOW_ORIGIN", value_delimiter = ',')]
    #[arg(value_parser = parse_origin)]
    allow_origins: Vec<String>,

    /// How much to log on stderr: off, error, warn, info or debug
    #[arg(long, value_name = "LEVEL", env = "POLECAT_LOG_LEVEL", default_value = "info")]
    #[arg(value_parser = parse_level)]
    pub(crate) log_level: LevelFilter,

    /// Do not serve the console, the page at /
    #[arg(long, env = "POLECAT_NO_CONSOLE", value_parser = clap::builder::FalseyValueParser::new())]
    no_console: bool,

    /// Compress messages of more than this, for clients that accept it (permessage-deflate); 0 turns
    /// compression off; at most 1073741824
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
    /// The SQLite file, relative to the current folder; it is created if it does not exist; off stores nothing
    /// and keeps only the newest messages in memory (for a file of that name, use ./off)
    #[arg(long = "db", value_name = "FILE", env = "POLECAT_DB", default_value = "polecat.db")]
    database: PathBuf,

    /// What an acknowledged message survives: with normal, the end of the process; with full, a power cut too,
    /// since every commit waits for the disk
    #[arg(long, value_name = "LEVEL", env = "POLECAT_DURABILITY", default_value = "normal")]
    durability: Durability,

    /// How many messages to keep, of all channels together [default: all]
    #[arg(long, value_name = "COUNT", env = "POLECAT_RETAIN_MESSAGES")]
    #[arg(value_parser = parse_kept, allow_negative_numbers = true)]
    retain_messages: Option<u64>,

    /// How many events to keep
    #[arg(long, value_name = "COUNT", env = "POLECAT_RETAIN_EVENTS", default_value = "10000")]
    #[arg(value_parser = parse_kept, allow_negative_numbers = true)]
    retain_events: u64,

    /// How many days to keep messages and events; fractions are allowed, up to 36500 [default: for ever]
    #[arg(long, value_name = "DAYS", env = "POLECAT_RETAIN_DAYS")]
    #[arg(value_parser = parse_days, allow_negative_numbers = true)]
    retain_days: Option<f64>,

    /// How long to remember an idempotency key, 0.01 to 86400
    #[arg(long, value_name = "SECONDS", env = "POLECAT_IDEMPOTENCY_WINDOW", default_value = "300")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    idempotency_window: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Times, in seconds, 0.01 to 86400")]
struct Times {
    /// Time between heartbeats; a client that is silent for two and a half intervals is closed
    #[arg(long, value_name = "SECONDS", env = "POLECAT_HEARTBEAT_INTERVAL", default_value = "25")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    heartbeat_interval: u32,

    /// Time for a new connection to complete its first request
    #[arg(long, value_name = "SECONDS", env = "POLECAT_HANDSHAKE_TIMEOUT", default_value = "10")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    handshake_timeout: u32,

    /// Time for a later request to arrive, and for a client to take some of the data that it is sent
    #[arg(long, value_name = "SECONDS", env = "POLECAT_REQUEST_TIMEOUT", default_value = "10")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    request_timeout: u32,

    /// Time that a connection can be idle between two requests
    #[arg(long, value_name = "SECONDS", env = "POLECAT_IDLE_TIMEOUT", default_value = "75")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    idle_timeout: u32,

    /// Time for connections to end after SIGTERM
    #[arg(long, value_name = "SECONDS", env = "POLECAT_DRAIN", default_value = "5")]
    #[arg(value_parser = parse_ms, allow_negative_numbers = true)]
    drain: u32,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits; bytes are 1 to 1073741824")]
struct Bounds {
    /// Open connections; the default, which is printed at the start, cannot be exceeded [default: descriptors
    /// less 32]
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CONNECTIONS", value_parser = parse_count)]
    max_connections: Option<usize>,

    /// Open connections from one address (IPv6: from one /64); 0 is no limit; behind a proxy, all clients have
    /// the same address
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 0)]
    max_connections_per_address: u32,

    /// Memory in use by the process, above which new connections are refused; K, M and G stand for powers of
    /// 1024 [default: no limit]
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_MEMORY", value_parser = parse_memory)]
    max_memory: Option<u64>,

    /// Channels with at least one subscriber
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CHANNELS", default_value = "100000")]
    #[arg(value_parser = parse_count)]
    max_channels: usize,

    /// Messages per second from one connection, including POSTs; 0 is no limit
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_MESSAGES_PER_SECOND", default_value_t = 0)]
    max_messages_per_second: u32,

    /// A WebSocket message, all fragments together
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_MESSAGE_BYTES", default_value = "1048576")]
    #[arg(value_parser = parse_bytes)]
    max_message_bytes: usize,

    /// A request body [default: as --max-message-bytes]
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_BODY_BYTES")]
    #[arg(value_parser = parse_bytes)]
    max_body_bytes: Option<usize>,

    /// Request line and header fields together
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_HEADER_BYTES", default_value = "16384")]
    #[arg(value_parser = parse_bytes)]
    max_header_bytes: usize,

    /// Number of header fields, at most 256
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_HEADER_FIELDS", default_value = "64")]
    #[arg(value_parser = parse_fields)]
    max_header_fields: usize,

    /// A request target
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_TARGET_BYTES", default_value = "8192")]
    #[arg(value_parser = parse_bytes)]
    max_target_bytes: usize,

    /// A channel name or event type
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_CHANNEL_NAME_BYTES", default_value = "200")]
    #[arg(value_parser = parse_bytes)]
    max_channel_name_bytes: usize,

    /// A lane or provider of a message, or a correlation id of an event
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_LABEL_BYTES", default_value = "200")]
    #[arg(value_parser = parse_bytes)]
    max_label_bytes: usize,

    /// Channels that one connection to /api/stream may subscribe to
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_CHANNELS_PER_CONNECTION", default_value = "1000")]
    max_channels_per_connection: usize,

    /// Subscriptions of all connections to /api/stream
    #[arg(long, value_name = "COUNT", env = "POLECAT_MAX_SUBSCRIPTIONS", default_value = "1000000")]
    max_subscriptions: usize,

    /// One request to subscribe
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_SUBSCRIBE_BYTES", default_value = "262144")]
    #[arg(value_parser = parse_bytes)]
    max_subscribe_bytes: usize,

    /// Newest messages of one channel in memory; older ones are read from the file
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_LOG_BYTES", default_value = "2097152")]
    #[arg(value_parser = parse_bytes)]
    max_log_bytes: usize,

    /// Newest messages of all channels in memory
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_LOGS_BYTES", default_value = "16777216")]
    #[arg(value_parser = parse_bytes)]
    max_logs_bytes: usize,

    /// Memory for unfinished messages and requests of all connections; can be twice the bytes received
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_INBOX_BYTES", default_value = "67108864")]
    #[arg(value_parser = parse_bytes)]
    max_inbox_bytes: usize,

    /// Unsent data of all connections, beyond 16 KiB of each; above it, connections that would add to it are
    /// not read
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_UNSENT_BYTES", default_value = "67108864")]
    #[arg(value_parser = parse_bytes)]
    max_unsent_bytes: usize,

    /// Unsent data of one connection; above it, the connection is not read
    #[arg(long, value_name = "BYTES", env = "POLECAT_MAX_OUTBOX_BYTES", default_value = "65536")]
    #[arg(value_parser = parse_bytes)]
    max_outbox_bytes: usize,
}

impl Serve {
    /// The flag that only works with a file, if there is no file.
    pub(crate) fn without_a_file(&self) -> Option<&'static str> {
        let store = &self.store;
        match (store.database(), store.durability, store.retain_days) {
            (None, Durability::Full, _) => Some("--durability full"),
            (None, _, Some(_)) => Some("--retain-days"),
            _ => None,
        }
    }

    /// The options that the flags make, with at most `descriptors_max` descriptors.
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

    /// How many connections there can be, what limits that, and what would raise it if it is less than
    /// requested.
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
                 {descriptors} descriptors; to allow that, raise the hard limit to {} (ulimit -Hn, or LimitNOFILE= of systemd)",
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
            durability: self.durability,
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

/// Descriptors that are not for connections: the poll, the listener, the signals, the database with its log,
/// and a few for connections that are being refused.
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
            label_bytes_max: self.max_label_bytes,
            channels_per_connection_max: self.max_channels_per_connection,
            subscriptions_max: self.max_subscriptions,
            subscribe_bytes_max: self.max_subscribe_bytes,
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

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
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
    parse_within(text, f64::MIN_POSITIVE..=36_500.0, "a number of days between 0 and 36500")
}

/// Nobody wants to keep nothing: where other flags take zero for no limit, here it would delete everything.
fn parse_kept(text: &str) -> Result<u64, String> {
    parse_within(text, 1.., "a number above 0")
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    parse_within(text, 1..=1 << 30, "a number of bytes between 1 and 1073741824")
}

fn parse_bytes_or_none(text: &str) -> Result<usize, String> {
    parse_within(text, 0..=1 << 30, "a number of bytes between 0 and 1073741824")
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
    parse_within(text, 1.., "a number above 0")
}

fn parse_fields(text: &str) -> Result<usize, String> {
    parse_within(text, 1..=HEAD_FIELDS_CAP, &format!("a number between 1 and {HEAD_FIELDS_CAP}"))
}

/// The number in `text`, if it is in `range`; else, that it is not what is `wanted`.
pub(crate) fn parse_within<T: FromStr + PartialOrd>(
    text: &str,
    range: impl RangeBounds<T>,
    wanted: &str,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("not {wanted}"))
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
