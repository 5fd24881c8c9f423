//! The flags of `polecat load`, and the plan that they make.

use clap::{Args, Subcommand};

use crate::load::payload::STAMP_BYTES;
use crate::load::plan::{Plan, Publishing, Workload};
use crate::shell::flags::parse_within;

use super::super::url::Url;
use super::target::{Sources, parse_sources};

/// The most connections, and the most messages of one in flight.
const COUNT_MAX: i64 = 10_000_000;

/// The flags of `polecat load`.
#[derive(Debug, Args)]
#[command(
    after_help = "`polecat load WORKLOAD --help` has the flags of a workload, and the URL that it needs.\n\n\
    Examples:\n  \
    polecat load idle ws://127.0.0.1:8010/ws -n 10000 --for 60\n  \
    polecat load echo ws://127.0.0.1:8010/api/ws -c 100 --depth 16 --size 64\n  \
    polecat load fanout ws://127.0.0.1:8010/api/ws/room -c 1000 --window 16\n  \
    polecat load publish http://127.0.0.1:8010/api/messages -c 64\n  \
    polecat load storm ws://127.0.0.1:8010/api/ws/room -c 1000 --rounds 5\n\n\
    Ctrl-C ends a run early, with its report; a second Ctrl-C does not wait for outstanding messages.\n\n\
    Exit status: 0 if everything arrived; 1 if something was lost, duplicated, reordered or wrong, or a\n\
    connection ended early; 2 for a wrong command line."
)]
pub(in crate::cli) struct Load {
    #[command(subcommand)]
    workload: Flags,
}

#[derive(Debug, Subcommand)]
enum Flags {
    /// Open connections and hold them, answering Pings
    Idle(Idle),
    /// Send messages that the server sends back, several at once on each connection
    Echo(Echo),
    /// Publish to subscribers, and check that each gets everything in the same order
    Fanout(Fanout),
    /// POST messages, and check that each response has the stored message
    Publish(Publish),
    /// Make all subscribers leave at once and resume, while messages are published
    Storm(Storm),
}

/// The flags of every workload.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every workload")]
struct Common {
    /// Seconds to measure
    #[arg(long = "for", value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    run_us: u64,

    /// Seconds to send before measuring
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds)]
    warm_up: u64,

    /// Seconds to wait for what has not arrived
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    patience: u64,

    /// Percentage of subscribers that read slowly
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    slow: u32,

    /// Additional connections that vanish after their handshake, as a percentage of the connections
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    half_open: u32,

    /// Additional connections that never finish their request, as a percentage of the connections
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    dribble: u32,

    /// Negotiate compression on all WebSockets (permessage-deflate), and send text that compresses like JSON
    #[arg(long)]
    compress: bool,

    /// New connections per second [default: as fast as they are accepted]
    #[arg(long, value_name = "COUNT", value_parser = parse_rate)]
    connect_rate: Option<f64>,

    /// Source addresses, A-B [default: as many loopback addresses as the number of ports requires]
    #[arg(long, value_name = "ADDRS", value_parser = parse_sources)]
    sources: Option<Sources>,

    /// Process of the server, to report its memory and processor time; can be given several times
    /// [default: the processes of this host that listen on the port]
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Instead of the progress bar, write a line to stderr when a stage of the run begins (warming-up, measuring,
    /// finishing, done), with the number of open connections
    #[arg(long)]
    stages: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat load idle ws://127.0.0.1:8010/ws -n 10000 --rate 2000 --for 60\n  \
    polecat load idle ws://127.0.0.1:8010/api/ws/room -n 100 --broadcast http://127.0.0.1:8010/api/messages")]
struct Idle {
    /// A WebSocket, such as ws://127.0.0.1:8010/ws. With --broadcast, it must be a channel whose name is the last
    /// segment of the path, or the event stream
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Connections
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    connections: u32,
    /// New connections per second; the same as --connect-rate
    #[arg(long, value_name = "COUNT", value_parser = parse_rate)]
    rate: Option<f64>,
    /// At the end, POST one message to this URL, which all connections must get; if it ends in /api/events, an event
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    broadcast: Option<Url>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    polecat load echo ws://127.0.0.1:8010/api/ws -c 100 --depth 16 --size 64")]
struct Echo {
    /// A WebSocket that sends messages back, such as ws://127.0.0.1:8010/api/ws
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Connections
    #[arg(short = 'c', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    connections: u32,
    /// Messages in flight on each connection
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    depth: u32,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_size)]
    size: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat load fanout ws://127.0.0.1:8010/api/ws/room -c 1000 --window 16\n  \
    polecat load fanout ws://127.0.0.1:8010/api/ws/room -c 1000 --rate 500 --post http://127.0.0.1:8010/api/messages\n  \
    polecat load fanout ws://127.0.0.1:8010/ws -c 1000 --rate 100 --post http://127.0.0.1:8010/api/events")]
struct Fanout {
    /// A channel, whose name is the last segment of the path, such as ws://127.0.0.1:8010/api/ws/room;
    /// with --post to /api/events, the event stream
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Subscribers
    #[arg(short = 'c', value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    connections: u32,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = parse_size)]
    size: usize,
    /// Messages of each publisher that can be in flight, which means that not all subscribers have them yet
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    window: u32,
    /// Messages per second of all publishers together, whether or not earlier ones have arrived
    #[arg(long, value_name = "COUNT", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Publishers; on WebSockets, they are subscribers too
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    publishers: u32,
    /// Publish by POST to this URL instead of on WebSockets; if it ends in /api/events, publish events
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    post: Option<Url>,
    /// POST the bare payload instead of JSON, and check only that the status is 2xx
    #[arg(long, requires = "post")]
    raw: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat load publish http://127.0.0.1:8010/api/messages -c 64 --depth 4\n  \
    polecat load publish http://127.0.0.1:8010/api/messages --channel load --size 1000 --for 30")]
struct Publish {
    /// The URL to POST to, such as http://127.0.0.1:8010/api/messages
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Connections
    #[arg(short = 'c', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    connections: u32,
    /// Requests in flight on each connection
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    depth: u32,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_size)]
    size: usize,
    /// The channel
    #[arg(long, value_name = "NAME", default_value = "load")]
    channel: String,
    /// Check only that the status is 2xx
    #[arg(long)]
    status_only: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    polecat load storm ws://127.0.0.1:8010/api/ws/room -c 1000 --rounds 5\n  \
    polecat load storm ws://127.0.0.1:8010/ws -c 1000 --post http://127.0.0.1:8010/api/events")]
struct Storm {
    /// A channel, whose name is the last segment of the path, such as ws://127.0.0.1:8010/api/ws/room;
    /// with --post to /api/events, the event stream
    #[arg(value_name = "URL", value_parser = Url::parse)]
    url: Url,
    /// Subscribers
    #[arg(short = 'c', value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    connections: u32,
    /// Size of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = parse_size)]
    size: usize,
    /// Messages per second
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = parse_rate)]
    rate: f64,
    /// How often all subscribers leave and resume during the run
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    rounds: u32,
    /// The URL to POST to [default: /api/messages on the same host]
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    post: Option<Url>,
    #[command(flatten)]
    common: Common,
}

/// A plan, and the parts of a run that only the shell needs.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) url: Url,
    pub(super) publish_url: Option<Url>,
    pub(super) sources: Option<Sources>,
    pub(super) pids: Vec<u32>,
    pub(super) json: bool,
    pub(super) stages: bool,
}

impl Load {
    /// The run to perform. `key` is the `Sec-WebSocket-Key` of all handshakes.
    pub(super) fn run(self, key: String) -> Run {
        match self.workload {
            Flags::Idle(Idle { url, common, connections, rate, broadcast }) => {
                let mut run = common.run(Workload::Idle, url, connections, key);
                run.plan.connect_rate = rate.or(run.plan.connect_rate);
                run.plan.warm_up_us = 0;
                run.plan.depth = u32::MAX;
                if let Some(url) = broadcast {
                    run.post_to(url, false, 1);
                    run.plan.messages_max = Some(1);
                }
                run
            }
            Flags::Echo(Echo { url, common, connections, depth, size }) => {
                let mut run = common.run(Workload::Echo, url, connections, key);
                (run.plan.depth, run.plan.payload_bytes) = (depth, size);
                run
            }
            Flags::Fanout(Fanout { url, common, connections, size, window, rate, publishers, post, raw }) => {
                let mut run = common.run(Workload::Fanout, url, connections, key);
                (run.plan.depth, run.plan.payload_bytes, run.plan.rate) = (window, size, rate);
                run.plan.publishers = publishers;
                if let Some(url) = post {
                    run.post_to(url, raw, publishers);
                }
                run
            }
            Flags::Publish(Publish { url, common, connections, depth, size, channel, status_only }) => {
                let mut run = common.run(Workload::Publish, url, connections, key);
                (run.plan.depth, run.plan.payload_bytes) = (depth, size);
                run.plan.channel_json = serde_json::Value::from(channel).to_string();
                run.plan.publishing = Publishing::Post(run.plan.endpoint.clone());
                run.plan.status_only = status_only;
                run
            }
            Flags::Storm(Storm { url, common, connections, size, rate, rounds, post }) => {
                let mut run = common.run(Workload::Storm, url, connections, key);
                (run.plan.payload_bytes, run.plan.rate, run.plan.rounds) = (size, Some(rate), rounds);
                run.plan.warm_up_us = 0;
                let url = post.unwrap_or_else(|| run.url.at("/api/messages"));
                run.post_to(url, false, 1);
                run
            }
        }
    }
}

impl Common {
    fn run(self, workload: Workload, url: Url, connections: u32, key: String) -> Run {
        let share = |percent: u32| {
            u32::try_from(u64::from(connections) * u64::from(percent) / 100).unwrap_or(u32::MAX)
        };
        let channel = percent_encoding::percent_decode_str(url.last_segment()).decode_utf8_lossy();
        let plan = Plan {
            workload,
            endpoint: url.endpoint(),
            channel_json: serde_json::Value::from(channel.into_owned()).to_string(),
            connections,
            publishers: 0,
            publishing: Publishing::Message,
            depth: 1,
            payload_bytes: STAMP_BYTES,
            rate: None,
            messages_max: None,
            connect_rate: self.connect_rate,
            slow: share(self.slow),
            half_open: share(self.half_open),
            dribblers: share(self.dribble),
            rounds: 0,
            status_only: false,
            compresses: self.compress,
            warm_up_us: self.warm_up,
            run_us: self.run_us,
            patience_us: self.patience,
            key,
        };
        Run {
            plan,
            url,
            publish_url: None,
            sources: self.sources,
            pids: self.pids,
            json: self.json,
            stages: self.stages,
        }
    }
}

impl Run {
    fn post_to(&mut self, url: Url, raw: bool, publishers: u32) {
        let endpoint = url.endpoint();
        self.plan.publishers = publishers;
        self.plan.publishing = match endpoint.target.split('?').next() {
            _ if raw => Publishing::PostRaw(endpoint),
            Some("/api/events") => Publishing::PostEvent(endpoint),
            _ => Publishing::Post(endpoint),
        };
        self.plan.status_only = raw;
        self.publish_url = Some(url);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn parse_seconds(text: &str) -> Result<u64, String> {
    parse_within(text, 0.0..=86_400.0, "a number of seconds, up to one day")
        .map(|seconds| (seconds * 1e6) as u64)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse_within(text, f64::MIN_POSITIVE..=1e9, "a number above 0")
}

fn parse_size(text: &str) -> Result<usize, String> {
    let wanted = format!("a number of bytes between {STAMP_BYTES} and 33554432");
    parse_within(text, STAMP_BYTES..=32 << 20, &wanted)
}
