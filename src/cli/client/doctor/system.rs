//! The limits of the system.

use std::fs;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::process::{Resource, Rlimit, getrlimit};

use super::super::status::bytes;
use super::finding::Finding;
use crate::shell::clock::unix_micros;
use crate::shell::flags::DESCRIPTORS_RESERVED;
use crate::shell::listeners::BACKLOG;

/// What a server can hold with its default limits: frames in memory, unfinished messages, unsent data, and
/// some more.
const HELD_BYTES: u64 = 160 << 20;

/// The socket memory for each connection.
const SOCKET_BYTES: u64 = 16 << 10;

pub(super) fn findings(connections: u64) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let sysctl = |name: &str| read(&format!("/proc/sys/{name}"));
    vec![
        descriptors(getrlimit(Resource::Nofile), numbers(sysctl("fs/nr_open")).first().copied(), connections),
        open_files(&numbers(sysctl("fs/file-nr")), connections),
        backlog(&numbers(sysctl("net/core/somaxconn"))),
        ports(&numbers(sysctl("net/ipv4/ip_local_port_range")), connections),
        socket_memory(&numbers(sysctl("net/ipv4/tcp_mem")), connections),
        memory(read("/proc/meminfo").as_deref(), cgroup_left(&read)),
        clock(now(), fs::exists("/run/systemd/timesync/synchronized").unwrap_or(false)),
    ]
}

fn now() -> Timestamp {
    Timestamp::from_microsecond(unix_micros()).unwrap_or(Timestamp::MAX)
}

fn numbers(text: Option<String>) -> Vec<u64> {
    text.unwrap_or_default().split_whitespace().map_while(|word| word.parse().ok()).collect()
}

fn descriptors(limit: Rlimit, system_max: Option<u64>, connections: u64) -> Finding {
    const NAME: &str = "descriptors";
    let Some(hard) = limit.maximum else {
        return Finding::ok(NAME, "no limit for a process");
    };
    let soft = limit.current.unwrap_or(hard);
    let room = hard.saturating_sub(DESCRIPTORS_RESERVED);
    let text = format!(
        "at most {hard} per process (the hard limit; the soft limit, {soft}, is raised at the start): room for \
         {room} connections"
    );
    if room >= connections {
        return Finding::ok(NAME, text);
    }
    let needed = connections + DESCRIPTORS_RESERVED;
    let mut command = format!("LimitNOFILE={needed} in the unit of systemd, or as root: ulimit -Hn {needed}");
    if let Some(system_max) = system_max.filter(|max| *max < needed) {
        command = format!("sysctl -w fs.nr_open={needed} (now {system_max}), then {command}");
    }
    if room < 64 { Finding::bad(NAME, text, command) } else { Finding::warn(NAME, text, command) }
}

/// `file-nr`: used, free, and the maximum of all processes together.
fn open_files(file_nr: &[u64], connections: u64) -> Finding {
    const NAME: &str = "open files";
    let [used, _, most] = file_nr else {
        return Finding::unknown(NAME, "the system does not tell how many all processes may have");
    };
    let text = format!("{used} of at most {most} of all processes together");
    let needed = used.saturating_add(connections);
    let command = format!("sysctl -w fs.file-max={}", needed.saturating_mul(2));
    Finding::enough(needed <= *most, NAME, text, command)
}

fn backlog(somaxconn: &[u64]) -> Finding {
    const NAME: &str = "backlog";
    let asked = u64::from(BACKLOG.unsigned_abs());
    let [most] = somaxconn else {
        return Finding::unknown(
            NAME,
            format!("{asked} new connections can wait, unless the system allows fewer"),
        );
    };
    let text = format!(
        "{} new connections can wait to be accepted: polecat asks for {asked}, net.core.somaxconn allows {most}",
        asked.min(*most)
    );
    Finding::enough(*most >= asked, NAME, text, format!("sysctl -w net.core.somaxconn={asked}"))
}

fn ports(range: &[u64], connections: u64) -> Finding {
    const NAME: &str = "port range";
    let [first, last] = range else {
        return Finding::unknown(NAME, "the system does not tell which ports outgoing connections get");
    };
    let count = (last + 1).saturating_sub(*first);
    let text = format!(
        "{first} to {last}: polecat load, or a proxy on this machine, can open {count} connections from one address"
    );
    // A port is 16 bits: beyond that, only more addresses help.
    let command = "sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"".to_owned();
    Finding::enough(count >= connections.min(28_000), NAME, text, command)
}

/// `tcp_mem`: the numbers of pages at which the kernel is relaxed, saves memory, and refuses.
fn socket_memory(tcp_mem: &[u64], connections: u64) -> Finding {
    const NAME: &str = "socket memory";
    let [_, _, pages] = tcp_mem else {
        return Finding::unknown(NAME, "the system does not tell how much all sockets may hold");
    };
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let most = pages.saturating_mul(page_bytes);
    let each = most / connections;
    let text = format!(
        "data in flight may take {} in all TCP sockets: {} for each of {connections}",
        bytes(most),
        bytes(each)
    );
    let needed = connections.saturating_mul(SOCKET_BYTES).div_ceil(page_bytes);
    let command = format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {needed}\"", needed / 2, needed / 4 * 3);
    Finding::enough(each >= SOCKET_BYTES, NAME, text, command)
}

fn memory(meminfo: Option<&str>, of_group: Option<u64>) -> Finding {
    const NAME: &str = "memory";
    let line = meminfo.and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemAvailable:")));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let of_system = kib.map(|kib| kib.saturating_mul(1024));
    let Some(available) = of_system.into_iter().chain(of_group).min() else {
        return Finding::unknown(NAME, "the system does not tell how much is free");
    };
    let whose = if of_system == Some(available) { "" } else { " to this control group" };
    let text = format!(
        "{} are available{whose}; with default limits a server uses up to {}, and the kernel uses more for each connection",
        bytes(available),
        bytes(HELD_BYTES)
    );
    if available >= HELD_BYTES {
        return Finding::ok(NAME, text);
    }
    let command = "lower --max-logs-bytes, --max-inbox-bytes and --max-unsent-bytes, or give it more memory";
    if available < HELD_BYTES / 8 {
        Finding::bad(NAME, text, command)
    } else {
        Finding::warn(NAME, text, command)
    }
}

/// The remaining memory of this process's control group, if that has a limit.
fn cgroup_left(read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let number = |path: String| read(&path)?.trim().parse::<u64>().ok();
    let left = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_end_matches('/'));
        let (folder, most, used) = match controllers {
            "" => (format!("/sys/fs/cgroup{path}"), "memory.max", "memory.current"),
            "memory" => {
                (format!("/sys/fs/cgroup/memory{path}"), "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => return None,
        };
        Some(number(format!("{folder}/{most}"))?.saturating_sub(number(format!("{folder}/{used}"))?))
    });
    left.min()
}

fn clock(now: Timestamp, is_synchronised: bool) -> Finding {
    const NAME: &str = "clock";
    let date = TimeZone::UTC.to_datetime(now);
    let year = date.year();
    let said = format!("{date:.0} UTC");
    if !(2025..2100).contains(&year) {
        let text = format!("{said}, which must be wrong: timestamps and --retain-days depend on it");
        return Finding::bad(NAME, text, "timedatectl set-ntp true");
    }
    Finding::ok(
        NAME,
        if is_synchronised {
            format!("{said}, synchronised by systemd-timesyncd")
        } else {
            format!("{said}; polecat cannot tell whether it is synchronised (see timedatectl)")
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::finding::Level;
    use super::*;

    fn limit(hard: Option<u64>) -> Rlimit {
        Rlimit { current: hard.map(|hard| hard.min(1024)), maximum: hard }
    }

    #[test]
    fn descriptors_bind_at_the_hard_limit() {
        assert_eq!(descriptors(limit(None), None, 10).level, Level::Ok);
        assert_eq!(descriptors(limit(Some(1032)), None, 1000).level, Level::Ok);
        let warned = descriptors(limit(Some(1024)), Some(2000), 1000);
        assert_eq!((warned.level, warned.text.contains("room for 992")), (Level::Warn, true));
        assert!(warned.command.unwrap().starts_with("LimitNOFILE=1032 "));
        let far = descriptors(limit(Some(1024)), Some(2000), 5000).command.unwrap();
        assert!(far.starts_with("sysctl -w fs.nr_open=5032 (now 2000), then LimitNOFILE=5032"), "{far}");
        assert_eq!(descriptors(limit(Some(40)), None, 1000).level, Level::Bad);
    }

    #[test]
    fn each_limit_that_binds_names_the_command_that_raises_it() {
        for (finding, command) in [
            (backlog(&[128]), "sysctl -w net.core.somaxconn=4096"),
            (ports(&[60000, 61000], 10_000), "sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\""),
            (open_files(&[900, 0, 1000], 1000), "sysctl -w fs.file-max=3800"),
            (socket_memory(&[1, 2, 3], 100_000), "sysctl -w net.ipv4.tcp_mem="),
        ] {
            assert_eq!(finding.level, Level::Warn, "{finding:?}");
            assert!(finding.command.as_ref().unwrap().starts_with(command), "{finding:?}");
        }
        for finding in [
            backlog(&[4096]),
            ports(&[32768, 60999], 100_000),
            open_files(&[900, 0, 10_000], 1000),
            socket_memory(&[1, 2, 1_000_000], 1000),
            memory(Some("MemAvailable: 1000000 kB\n"), None),
            clock("2026-11-25T00:00:00Z".parse().unwrap(), false),
        ] {
            assert_eq!((finding.level, &finding.command), (Level::Ok, &None), "{finding:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        for finding in [
            open_files(&[], 1),
            backlog(&[]),
            ports(&[1], 1),
            socket_memory(&[], 1),
            memory(None, None),
            memory(Some("MemFree: x"), None),
        ] {
            assert_eq!(finding.level, Level::Unknown, "{finding:?}");
        }
    }

    #[test]
    fn the_smaller_memory_binds() {
        let files = |path: &str| {
            let text = match path {
                "/proc/self/cgroup" => "4:memory:/a\n0::/b/c\n",
                "/sys/fs/cgroup/b/c/memory.max" => "50000000\n",
                "/sys/fs/cgroup/b/c/memory.current" => "10000000\n",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes" => "9223372036854771712\n",
                "/sys/fs/cgroup/memory/a/memory.usage_in_bytes" => "1\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(cgroup_left(&files), Some(40_000_000));
        let finding = memory(Some("MemAvailable: 1000000 kB\n"), Some(40_000_000));
        assert_eq!((finding.level, finding.text.contains("control group")), (Level::Warn, true));
        assert_eq!(memory(Some("MemAvailable: 1000 kB\n"), None).level, Level::Bad);
    }

    #[test]
    fn a_clock_that_was_never_set_is_bad() {
        assert_eq!(clock(Timestamp::UNIX_EPOCH, true).level, Level::Bad);
    }
}
