//! What the system reports about this process.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, WaitOptions, getrlimit, wait};
use rustix::time::{ClockId, clock_gettime};

use crate::server::host::{Host, ProcessStats};

/// The directory of the descriptors that are open.
const DESCRIPTORS: &str = "/proc/self/fd";

/// This process, as it was when the server was started.
#[derive(Debug)]
pub(crate) struct Process {
    started: SystemTime,
    /// Open descriptors at that time, without any connection.
    descriptors: Option<u64>,
}

impl Process {
    /// Must be called before the first connection is accepted.
    pub(crate) fn new() -> Self {
        let listed = fs::read_dir(DESCRIPTORS).ok().map(|listed| listed.count() as u64);
        // The list itself is one of them.
        Self { started: SystemTime::now(), descriptors: listed.map(|count| count.saturating_sub(1)) }
    }

    /// Newer kernels report the number as the size of the directory. On others it is calculated, since
    /// listing takes longer the more there are.
    fn descriptors(&self, connections: usize) -> Option<u64> {
        match fs::metadata(DESCRIPTORS) {
            Ok(listed) if listed.len() > 0 => Some(listed.len()),
            _ => self.descriptors.map(|before| before + connections as u64),
        }
    }
}

impl Host for Process {
    /// Takes some microseconds, however many connections there are.
    fn process_stats(&self, connections: usize) -> ProcessStats {
        let pages = pages();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        ProcessStats {
            descriptors: self.descriptors(connections),
            descriptors_max: getrlimit(Resource::Nofile).current,
            resident_bytes: pages.map(|(_, resident)| bytes(resident)),
            virtual_bytes: pages.map(|(all, _)| bytes(all)),
            cpu_seconds: Some(cpu_seconds),
            started_unix_seconds: self.started.duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs_f64()),
        }
    }
}

/// Reaps a few children that have ended. Returns whether there may be more.
pub(crate) fn reap() -> bool {
    const REAPED_MAX: usize = 64;
    (0..REAPED_MAX).all(|_| matches!(wait(WaitOptions::NOHANG), Ok(Some(_))))
}

/// Bytes of memory in use; `None` if the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    pages().map(|(_, resident)| bytes(resident))
}

fn bytes(pages: u64) -> u64 {
    pages * rustix::param::page_size() as u64
}

fn pages() -> Option<(u64, u64)> {
    memory_pages(&fs::read_to_string("/proc/self/statm").ok()?)
}

/// Pages of address space, and how many of them are in memory.
fn memory_pages(statm: &str) -> Option<(u64, u64)> {
    let mut fields = statm.split_ascii_whitespace().map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_read() {
        assert_eq!(memory_pages("55678 1520 1100 3 0 44 0\n"), Some((55678, 1520)));
        assert_eq!(memory_pages("55678"), None);
        assert_eq!(memory_pages(""), None);
    }

    #[test]
    fn a_process_uses_something() {
        let process = Process::new();
        let facts = process.process_stats(0);
        assert!(facts.cpu_seconds.unwrap() > 0.0 && facts.started_unix_seconds.unwrap() > 1.7e9);
        if cfg!(target_os = "linux") {
            // At least standard input and both outputs.
            assert!(facts.descriptors.unwrap() >= 3, "{facts:?}");
            assert!(facts.resident_bytes.unwrap() > 1 << 20, "{facts:?}");
            assert!(facts.virtual_bytes > facts.resident_bytes, "{facts:?}");
        }
    }
}
