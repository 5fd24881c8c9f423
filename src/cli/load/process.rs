//! The resources that the server and this process use, as the kernel counts them.

use std::fs;
use std::path::Path;

/// The total use of some processes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Nanoseconds of processor time, of all their threads.
    pub(super) cpu_ns: u64,
    pub(super) resident_bytes: u64,
}

impl Usage {
    /// The use of all `pids`; `None` if the system does not tell.
    pub(super) fn of(pids: &[u32]) -> Option<Self> {
        if pids.is_empty() {
            return None;
        }
        let mut usage = Self::default();
        for pid in pids {
            let process = Path::new("/proc").join(pid.to_string());
            for thread in fs::read_dir(process.join("task")).ok()?.flatten() {
                // A thread may have ended in the meantime.
                let Ok(stat) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
                usage.cpu_ns += stat.split(' ').next()?.parse::<u64>().ok()?;
            }
            usage.resident_bytes += resident_bytes(&fs::read_to_string(process.join("smaps_rollup")).ok()?)?;
        }
        Some(usage)
    }
}

/// The exact count; the one in `status` may lag behind.
fn resident_bytes(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

pub(super) fn listening_on(port: u16) -> Vec<u32> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| listening_socket(line, port)));
    }
    let mut pids = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.to_str().is_some_and(|link| sockets.iter().any(|socket| socket == link))) {
            pids.push(pid);
        }
    }
    pids
}

/// The name of the socket in a line of the kernel's table, if it listens on `port`.
fn listening_socket(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTEN;
    is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_tells_who_listens() {
        let line = "   0: 0100007F:1F4A 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 12345 1";
        assert_eq!(listening_socket(line, 8010).as_deref(), Some("socket:[12345]"));
        assert_eq!(listening_socket(line, 8011), None);
        assert_eq!(listening_socket(&line.replace(" 0A ", " 01 "), 8010), None);
        assert_eq!(listening_socket("sl local", 8010), None);
    }

    #[test]
    fn the_memory_of_a_process_is_read() {
        assert_eq!(resident_bytes("55-7f rollup\nRss:    1520 kB\nPss: 1 kB\n"), Some(1520 * 1024));
        assert_eq!(resident_bytes("nothing"), None);
    }
}
