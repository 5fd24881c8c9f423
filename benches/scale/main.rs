//! The server with a million members of one channel, and with 100,000 channels, over sockets that cost
//! nothing: `cargo bench --bench scale`. Results that are not times are asserted; `cargo test` does so with
//! fewer members. Times are the thread's own on the processor, so other load of the machine does not count.

#![expect(clippy::print_stdout, reason = "it prints its table")]

mod mock_server;

use std::alloc::System;
use std::fmt::Display;
use std::time::Duration;

use cap::Cap;
use polecat::base::config::Config;

use mock_server::{MockServer, processor_time, text_frame};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Clients that connect in one turn.
const BATCH: usize = 1000;

/// The approximate time of a write to a TCP socket on loopback.
const WRITE_COST: Duration = Duration::from_micros(5);

const STEP_MS: u64 = 20;

/// The most bytes of memory for an idle connection: a cache line, its slot in its channel, and the spare
/// capacity of vectors that grow by doubling.
const CONNECTION_BYTES_MAX: usize = 140;

/// The most bytes of memory for a further channel of a connection that has many.
const SUBSCRIPTION_BYTES_MAX: usize = 40;

/// The channels that connections with many share.
const SHARED_CHANNELS: usize = 1000;

/// The most bytes of memory for a channel with two members, not counting those.
const CHANNEL_BYTES_MAX: usize = 1024;

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let members = number.unwrap_or(if is_bench { 1_000_000 } else { 20_000 });
    let mut channel = FullChannel::fill(members);
    channel.broadcast("broadcast", Duration::ZERO);
    channel.broadcast("broadcast, 5 us a write", WRITE_COST);
    channel.heartbeats();
    channel.burst();
    channel.empty();
    channels(members / 10);
    subscriptions((members / 10).min(10_000));
}

fn row(what: &str, value: impl Display) {
    println!("{what:<44} {value}");
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// The longest turn, and the sum of all turns.
#[derive(Default)]
struct Turns {
    count: u32,
    longest: Duration,
    total: Duration,
}

impl Turns {
    fn add(&mut self, turn: Duration) {
        self.count += 1;
        self.total += turn;
        self.longest = self.longest.max(turn);
    }

    fn print(&self, what: &str) {
        row(
            &format!("{what}: turns, longest, total"),
            format!("{}, {}, {}", self.count, ms(self.longest), ms(self.total)),
        );
    }
}

/// All members of one channel, an echo, and a publisher.
struct FullChannel {
    mock: MockServer,
    echo: u32,
    publisher: u32,
    /// The first member, and one above the last.
    members: (u32, u32),
    bytes_before: usize,
    broadcasts: u16,
}

impl FullChannel {
    fn fill(members: usize) -> Self {
        let mut mock = MockServer::new(Config::default(), members + 100_000);
        let echo = mock.join("/api/ws");
        let publisher = mock.connect(b"GET /api/health HTTP/1.1\r\nHost: bench\r\n\r\n");
        mock.settle();
        mock.watch(echo);
        let bytes_before = ALLOCATOR.allocated();
        let first = publisher + 1;
        let mut turns = Turns::default();
        let mut joined = 0;
        while joined < members {
            let batch = BATCH.min(members - joined);
            for _ in 0..batch {
                mock.join("/api/ws/room");
            }
            joined += batch;
            // The first clients already get Pings while the last ones connect.
            mock.pong(BATCH);
            turns.add(mock.turn(STEP_MS));
        }
        mock.settle();
        let bytes = (ALLOCATOR.allocated() - bytes_before) / members;
        row("members of one channel", members);
        turns.print("joins, 1,000 in a turn");
        row("bytes per connection, by the allocator", bytes);
        assert!(bytes <= CONNECTION_BYTES_MAX, "{bytes} bytes per connection");
        let last = first + u32::try_from(members).unwrap_or(u32::MAX);
        assert!((first..last).all(|member| mock.written(member) == 1), "everyone has got its 101");
        Self { mock, echo, publisher, members: (first, last), bytes_before, broadcasts: 0 }
    }

    /// One message to all, while an echo goes back and forth, and some clients come and go.
    fn broadcast(&mut self, what: &str, write_cost: Duration) {
        self.mock.set_write_cost(write_cost);
        self.mock.publish(self.publisher, "room", "to all of you");
        let mut turns = Turns::default();
        let mut echoes = Vec::new();
        let mut visitors = Vec::new();
        let frame = text_frame("are you there?");
        let mut begun = processor_time();
        loop {
            // The echo arrived just after the turn before had begun: it waits longest.
            self.mock.send(self.echo, &frame);
            visitors.push(self.mock.join("/api/ws/room"));
            if visitors.len() > 10 {
                self.mock.end(visitors.swap_remove(0));
            }
            let next_begun = processor_time();
            turns.add(self.mock.turn(STEP_MS));
            let Some(written_at) = self.mock.take_written_at() else { continue };
            echoes.push(written_at.saturating_sub(begun));
            begun = next_begun;
            if !self.mock.is_busy() {
                break;
            }
        }
        for visitor in visitors {
            self.mock.end(visitor);
        }
        self.mock.settle();
        self.mock.set_write_cost(Duration::ZERO);
        self.broadcasts += 1;
        turns.print(what);
        echoes.sort_unstable();
        let longest = echoes.last().copied().unwrap_or_default();
        row(&format!("{what}: echo waits, median, longest"), {
            format!("{}, {}", ms(echoes[echoes.len() / 2]), ms(longest))
        });
        assert_eq!(echoes.len(), turns.count as usize, "every turn answers the echo");
        let all = 1 + self.broadcasts;
        let (first, last) = self.members;
        assert!((first..last).all(|member| self.mock.written(member) == all), "everyone gets it once");
    }

    /// One interval with nothing but heartbeats.
    fn heartbeats(&mut self) {
        let before = self.mock.heartbeats();
        let until_ms =
            self.mock.now_ms() + u64::from(self.mock.server.config().timeouts.heartbeat_interval_ms);
        let mut turns = Turns::default();
        while self.mock.now_ms() < until_ms {
            self.mock.pong(usize::MAX);
            turns.add(self.mock.turn(STEP_MS));
        }
        self.mock.pong(usize::MAX);
        self.mock.settle();
        turns.print("heartbeats of one interval");
        let beats = self.mock.heartbeats() - before;
        row("heartbeats", beats);
        let (first, last) = self.members;
        let members = u64::from(last - first);
        assert!((members..members * 11 / 10 + 2).contains(&beats), "{beats} heartbeats in one interval");
    }

    /// A hundred messages to all, and one to a channel of two.
    fn burst(&mut self) {
        let other = self.mock.join("/api/ws/other");
        let second = self.mock.connect(b"GET /api/health HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.mock.settle();
        let before = self.mock.written(other);
        for _ in 0..100 {
            self.mock.publish(self.publisher, "room", "a burst");
        }
        self.mock.turn(0);
        assert!(self.mock.is_busy(), "the burst is under way");
        self.mock.publish(second, "other", "something else");
        let begun = processor_time();
        let mut turns = 0;
        while self.mock.written(other) == before {
            self.mock.turn(0);
            turns += 1;
        }
        row(
            "another channel's message in a burst",
            format!("{turns} turns, {}", ms(processor_time().saturating_sub(begun))),
        );
        assert!(turns <= 2, "another channel waits for {turns} turns");
        self.mock.settle();
        self.mock.end(other);
        self.mock.end(second);
        self.mock.settle();
    }

    /// All leave at once; nothing remains.
    fn empty(mut self) {
        let (first, last) = self.members;
        let mut turns = Turns::default();
        for member in first..last {
            self.mock.end(member);
        }
        loop {
            turns.add(self.mock.turn(STEP_MS));
            if !self.mock.is_busy() {
                break;
            }
        }
        turns.print("all leave at once");
        assert_eq!(self.mock.server.connections(), 2, "the echo and the publisher are left");
        self.mock.end(self.echo);
        self.mock.end(self.publisher);
        self.mock.settle();
        assert_eq!(self.mock.server.connections(), 0);
        let left = ALLOCATOR.allocated().saturating_sub(self.bytes_before);
        row("bytes left when all are gone", left);
    }
}

/// `count` channels with two members each, in addition to as many members of one channel.
fn channels(count: usize) {
    let held = |path: &dyn Fn(usize) -> String| {
        let mut mock = MockServer::new(Config::default(), count * 2);
        mock.settle();
        let before = ALLOCATOR.allocated();
        for number in 0..count * 2 {
            mock.join(&path(number));
            if number % BATCH == BATCH - 1 {
                mock.turn(0);
            }
        }
        mock.settle();
        assert_eq!(mock.server.connections(), count * 2);
        ALLOCATOR.allocated() - before
    };
    let together = held(&|_| "/api/ws/one".to_owned());
    let apart = held(&|number| format!("/api/ws/channel-{:06}", number / 2));
    let bytes = apart.saturating_sub(together) / count;
    row("channels with two members each", count);
    row("bytes per channel, beside its members'", bytes);
    assert!(bytes <= CHANNEL_BYTES_MAX, "{bytes} bytes per channel");
}

/// `count` connections with 100 and with 110 channels each, over a thousand: what a further channel costs, and how long
/// the turns are in which they subscribe, beside an echo.
fn subscriptions(count: usize) {
    let held = |each: usize| {
        let mut config = Config::default();
        config.limits.subscriptions_max = count * each;
        let mut mock = MockServer::new(config, count + 1);
        let echo = mock.join("/api/ws");
        mock.settle();
        mock.watch(echo);
        let before = ALLOCATOR.allocated();
        let (mut turns, mut waits) = (Turns::default(), 0);
        for number in 0..count {
            // Nine has no divisor in common with a thousand.
            let channel = |nth: usize| format!("channel=c{}", (number * 7 + nth * 9) % SHARED_CHANNELS);
            mock.join_v1(&format!("/api/stream?{}", (0..each).map(channel).collect::<Vec<_>>().join("&")));
            if number % BATCH == BATCH - 1 || number == count - 1 {
                loop {
                    if waits == 0 {
                        mock.send(echo, &text_frame("are you there?"));
                    }
                    turns.add(mock.turn(0));
                    // A turn reads no more than its budget: those that came before the echo are first.
                    waits = if mock.take_written_at().is_some() { 0 } else { waits + 1 };
                    assert!(waits <= 3, "the echo waits for {waits} turns");
                    if !mock.is_busy() {
                        break;
                    }
                }
            }
        }
        let subscribed = mock.server.holdings().subscriptions;
        assert_eq!(subscribed, count * each, "all are taken in");
        turns.print(&format!("{count} subscribe to {each} channels each"));
        ALLOCATOR.allocated() - before
    };
    let (few, many) = (held(100), held(110));
    let bytes = many.saturating_sub(few) / (count * 10);
    row("bytes for a connection with 100 channels", few / count);
    row("bytes per further channel", bytes);
    assert!(bytes <= SUBSCRIPTION_BYTES_MAX, "{bytes} bytes per further channel");
}
