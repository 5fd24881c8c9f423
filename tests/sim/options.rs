//! The options of a run, all drawn from its seed. Each is drawn separately, so that rare combinations occur
//! too.

use polecat::base::config::{Budgets, Config, Limits, Timeouts};

use crate::pipe::Manners;

/// The behaviour of the engine.
#[derive(Debug, Clone)]
pub(crate) struct EngineOptions {
    /// The number of settles by which answers are late.
    pub(crate) delay_settles: u32,
    /// The least milliseconds by which answers are late.
    pub(crate) late_ms_min: u64,
    /// The most.
    pub(crate) late_ms_max: u64,
    /// The percentage of settles in which everything fails.
    pub(crate) refuses_percent: u32,
    /// The percentage of pages that cannot be read.
    pub(crate) pages_fail_percent: u32,
    /// The newest ids before the start.
    pub(crate) newest: [u64; 2],
    /// The number of records to keep of each kind.
    pub(crate) records_max: usize,
    /// How long an idempotency key is remembered.
    pub(crate) window_ms: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            delay_settles: 0,
            late_ms_min: 0,
            late_ms_max: 0,
            refuses_percent: 0,
            pages_fail_percent: 0,
            newest: [0, 0],
            records_max: usize::MAX,
            window_ms: 300_000,
        }
    }
}

/// The habits of the clients of a run. Chances are in a thousand, for each time that a client acts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits {
    pub(crate) subscribers: usize,
    /// Subscribers that speak `polecat.v1`.
    pub(crate) followers: usize,
    /// Clients with many channels.
    pub(crate) streamers: usize,
    pub(crate) publishers: usize,
    pub(crate) echoers: usize,
    pub(crate) hostile: usize,
    /// Clients that break one rule.
    pub(crate) breakers: usize,
    pub(crate) channels: usize,
    pub(crate) publish_chance: u32,
    pub(crate) leave_chance: u32,
    pub(crate) reset_chance: u32,
    pub(crate) vanish_chance: u32,
    pub(crate) stall_chance: u32,
    /// The chance of an absence that may be too long.
    pub(crate) absence_chance: u32,
    /// The largest ordinary message, in bytes.
    pub(crate) content_bytes_max: usize,
    /// The chance of one near the limit.
    pub(crate) big_chance: u32,
    /// The most bytes that arrive at once.
    pub(crate) segment_bytes_max: usize,
    /// The most milliseconds between two actions of a client.
    pub(crate) pause_ms_max: u64,
}

/// Everything that a seed determines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) config: Config,
    pub(crate) engine: EngineOptions,
    pub(crate) manners: Manners,
    pub(crate) habits: Habits,
    /// The most milliseconds that a turn takes.
    pub(crate) turn_ms_max: u64,
    /// The chance, per thousand turns, of a stall of several heartbeat intervals.
    pub(crate) loop_stall_chance: u32,
    /// The chance, in a thousand, that a socket is reported as ready and is not.
    pub(crate) spurious_chance: u32,
    /// How long clients act freely.
    pub(crate) chaos_ms: u64,
    /// Servers on one store; 0 is 1.
    pub(crate) nodes: usize,
    /// Addresses from which clients come; 0 is 1.
    pub(crate) sources: u64,
    /// The chance, per thousand turns, that a server's process dies.
    pub(crate) crash_chance: u32,
    /// The chance, per thousand turns, that all servers' processes die and their disk goes back to an earlier
    /// moment.
    pub(crate) return_chance: u32,
    /// The chance, per thousand turns, that a server's process is asked to end, and is followed by another.
    pub(crate) deploy_chance: u32,
    /// Whether clients that connect in the meantime wait for the next process, instead of being refused.
    pub(crate) is_listener_passed_on: bool,
    /// The chance, per thousand turns, that the wall clock is set.
    pub(crate) clock_chance: u32,
    /// Whether the end is a shutdown instead of all clients leaving.
    pub(crate) ends_by_shutdown: bool,
}

impl Options {
    pub(crate) fn draw(random: &mut fastrand::Rng) -> Self {
        let interval = pick(random, &[3_000, 25_000]);
        let mut options = Self {
            config: Config {
                limits: limits(random),
                timeouts: Timeouts {
                    heartbeat_interval_ms: interval,
                    handshake_ms: pick(random, &[600_000, 600_000, 2_500]),
                    request_ms: pick(random, &[600_000, 600_000, 2_500]),
                    keep_alive_ms: pick(random, &[600_000, 600_000, 2_500]),
                    close_ms: pick(random, &[interval * 10, 1_000]),
                    log_idle_ms: pick(random, &[1, 300, 30_000]),
                    drain_ms: pick(random, &[60_000, 60_000, 2_000, 20]),
                },
                budgets: budgets(random),
                ..Config::default()
            },
            engine: EngineOptions {
                delay_settles: pick(random, &[0, 0, 1, 4]),
                late_ms_min: 0,
                late_ms_max: pick(random, &[0, 0, 5, 200]),
                refuses_percent: pick(random, &[0, 0, 5, 30]),
                pages_fail_percent: pick(random, &[0, 0, 2, 20]),
                newest: pick(random, &[[0, 0], [7, 3], [99_990, 1_000_000]]),
                records_max: pick(random, &[usize::MAX, usize::MAX, 40, 5]),
                window_ms: pick(random, &[300_000, 3_600_000]),
            },
            manners: Manners {
                arrived_max: pick(random, &[3, 100, 8 << 10, 1 << 20]),
                down_max: pick(random, &[9, 200, 2_000, 64 << 10]),
                write_max: pick(random, &[3, 100, usize::MAX, usize::MAX]),
                tells_every_arrival: random.bool(),
                tells_levels: random.bool(),
                interrupts_one_in: pick(random, &[0, 0, 5]),
            },
            habits: habits(random),
            turn_ms_max: pick(random, &[0, 1, 3]),
            loop_stall_chance: pick(random, &[0, 0, 2]),
            spurious_chance: pick(random, &[0, 0, 20]),
            chaos_ms: u64::from(interval) * 6,
            nodes: pick(random, &[1, 1, 1, 2, 3]),
            sources: 3,
            crash_chance: pick(random, &[0, 0, 2, 10]),
            return_chance: pick(random, &[0, 0, 0, 10]),
            deploy_chance: pick(random, &[0, 0, 0, 10]),
            is_listener_passed_on: random.bool(),
            clock_chance: pick(random, &[0, 0, 5]),
            ends_by_shutdown: random.u32(..4) == 0,
        };
        // A run is bounded by events, not by time.
        options.habits.pause_ms_max = (options.chaos_ms / 40).max(1);
        options
    }
}

/// The default limit of unsent bytes.
const UNSENT: usize = 64 << 20;

fn limits(random: &mut fastrand::Rng) -> Limits {
    let standard = Limits::default();
    Limits {
        message_bytes_max: pick(random, &[2_000, 20_000]),
        outbox_bytes_max: pick(random, &[1, 500, 64 << 10]),
        body_bytes_max: 20_000,
        connections_max: rarely(random, 6, standard.connections_max),
        connections_per_source_max: rarely(random, 3, 0),
        messages_per_second_max: rarely(random, 3, 0),
        resident_bytes_max: rarely(random, 320, 0),
        channels_max: rarely(random, 1, standard.channels_max),
        channels_per_connection_max: pick(random, &[1, 3, standard.channels_per_connection_max]),
        subscriptions_max: rarely(random, 4, standard.subscriptions_max),
        subscribe_bytes_max: pick(random, &[200, standard.subscribe_bytes_max]),
        inboxes_bytes_max: rarely(random, 6_000, standard.inboxes_bytes_max),
        outboxes_bytes_max: pick(random, &[UNSENT, UNSENT, UNSENT, UNSENT, UNSENT, UNSENT, 1, 40_000]),
        pending_requests_max: pick(random, &[1, 3, standard.pending_requests_max]),
        chunk_extra_bytes_max: pick(random, &[0, 50, standard.chunk_extra_bytes_max]),
        head_fields_max: pick(random, &[20, standard.head_fields_max]),
        label_bytes_max: 30,
        channel_name_bytes_max: pick(random, &[60, standard.channel_name_bytes_max]),
        log_bytes_max: pick(random, &[1, 1_000, 2 << 20]),
        log_frames_max: pick(random, &[1, 4, 1024]),
        logs_bytes_max: pick(random, &[1, 2_000, 16 << 20]),
        engine_backlog_bytes_max: pick(random, &[1, 1_000, 8 << 20]),
        ..standard
    }
}

fn budgets(random: &mut fastrand::Rng) -> Budgets {
    if random.u32(..4) == 0 {
        return Budgets::default();
    }
    Budgets {
        accepts: pick(random, &[1, 3, 256]),
        appends: pick(random, &[1, 3, 2048]),
        reads: pick(random, &[1, 3, 1024]),
        read_bytes_per_connection: pick(random, &[1, 300, 256 << 10]),
        read_bytes: pick(random, &[1, 1_000, 1 << 20]),
        sweep_members: pick(random, &[1, 5, 2048]),
        sweep_members_per_channel: pick(random, &[1, 3, 512]),
        write_bytes_per_connection: pick(random, &[50, 300, 512 << 10]),
        write_bytes: pick(random, &[1, 2_000, 16 << 20]),
        flushes: pick(random, &[1, 3, 1024]),
        subscribes: pick(random, &[1, 3, 2048]),
        deadlines: pick(random, &[1, 3, 1024]),
        page_records: pick(random, &[1, 3, 256]),
        page_bytes: pick(random, &[1, 500, 128 << 10]),
        count_records: pick(random, &[1, 4_096]),
        engine_reads: pick(random, &[1, 16]),
        coded_bytes: pick(random, &[1, 1_000, 2 << 20]),
    }
}

fn habits(random: &mut fastrand::Rng) -> Habits {
    Habits {
        subscribers: random.usize(1..=10),
        followers: random.usize(0..=5),
        streamers: random.usize(0..=4),
        publishers: random.usize(0..=3),
        echoers: random.usize(0..=2),
        hostile: random.usize(0..=2),
        channels: pick(random, &[1, 2, 8]),
        publish_chance: pick(random, &[20, 200, 700]),
        leave_chance: pick(random, &[0, 20, 100]),
        reset_chance: pick(random, &[0, 0, 30]),
        vanish_chance: pick(random, &[0, 0, 10]),
        breakers: random.usize(0..=2),
        absence_chance: pick(random, &[0, 0, 10]),
        stall_chance: pick(random, &[0, 50, 200]),
        content_bytes_max: pick(random, &[0, 60, 1_500]),
        big_chance: pick(random, &[0, 0, 50]),
        segment_bytes_max: pick(random, &[2, 60, 64 << 10]),
        pause_ms_max: 1,
    }
}

fn rarely<T>(random: &mut fastrand::Rng, rare: T, common: T) -> T {
    if random.u32(..8) == 0 { rare } else { common }
}

fn pick<T: Copy>(random: &mut fastrand::Rng, among: &[T]) -> T {
    among[random.usize(..among.len())]
}
