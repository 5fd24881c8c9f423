//! The recorded counts, and the comparison with them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// By how many percent a count may differ from the recorded one.
const PERCENT_MAX: u64 = 5;

/// The same with another compiler: larger growth is hardly the compiler's doing.
const PERCENT_MAX_OTHER_RUSTC: u64 = 30;

/// The conditions that the counts depend on, apart from the code.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) rustc: String,
    /// Architecture, system, its C library (whose allocator is part of the paths), and whether functions that
    /// choose by processor have found AVX2, which depends on what valgrind reports.
    pub(crate) machine: String,
}

impl Toolchain {
    pub(crate) fn of_this() -> Result<Self, String> {
        let output =
            Command::new("rustc").arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let environment = if cfg!(target_env = "gnu") { "gnu" } else { "other" };
        let vectors = if has_avx2() { "avx2" } else { "plain" };
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        Ok(Self { rustc, machine: format!("{arch} {os} {environment} {vectors}") })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_avx2() -> bool {
    false
}

/// The file `recorded.txt`.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) toolchain: Toolchain,
    counts: Vec<(String, u64)>,
}

impl Recorded {
    pub(crate) fn read() -> Result<Self, String> {
        let path = path();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut recorded = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(' ').map(|(name, value)| (name, value.trim())) {
                Some(("rustc", _)) => line.clone_into(&mut recorded.toolchain.rustc),
                Some(("machine", machine)) => machine.clone_into(&mut recorded.toolchain.machine),
                Some((name, count)) => {
                    let count = count.parse().map_err(|error| format!("{line:?}: {error}"))?;
                    recorded.counts.push((name.to_owned(), count));
                }
                None => return Err(format!("{line:?} is not a name and a value")),
            }
        }
        Ok(recorded)
    }

    pub(crate) fn of(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(recorded, _)| recorded == name).map(|(_, count)| *count)
    }
}

pub(crate) fn write(toolchain: &Toolchain, counts: &[(&str, u64)]) -> Result<(), String> {
    let mut text =
        "# Instructions per operation, written by: cargo bench --profile instructions --bench instructions -- record\n".to_owned();
    writeln!(text, "machine {}\n{}", toolchain.machine, toolchain.rustc).unwrap_or_default();
    for (name, count) in counts {
        writeln!(text, "{name:<24}{count:>12}").unwrap_or_default();
    }
    print!("{text}");
    let path = path();
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/recorded.txt")
}

/// The result of a comparison with the recorded count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    More,
    /// It must be recorded too: otherwise the limit would become too loose.
    Less,
}

impl Verdict {
    pub(crate) fn of(counted: u64, recorded: u64, is_same_rustc: bool) -> Self {
        let percent_max = if is_same_rustc { PERCENT_MAX } else { PERCENT_MAX_OTHER_RUSTC };
        let is_beyond = counted.abs_diff(recorded) * 100 > recorded * percent_max;
        match is_beyond {
            true if counted > recorded => Self::More,
            true if is_same_rustc => Self::Less,
            _ => Self::Within,
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Within => "",
            Self::More => "  MORE",
            Self::Less => "  LESS",
        }
    }
}

/// By how many percent `counted` is more than `recorded`.
#[expect(clippy::cast_precision_loss, reason = "it is for people")]
pub(crate) fn percent(counted: u64, recorded: u64) -> f64 {
    (counted as f64 / recorded.max(1) as f64 - 1.0) * 100.0
}

/// Checks that the comparison finds differences.
pub(crate) fn check_verdicts() {
    for (counted, is_same_rustc, verdict) in [
        (1000, true, Verdict::Within),
        (1050, true, Verdict::Within),
        (1051, true, Verdict::More),
        (950, true, Verdict::Within),
        (949, true, Verdict::Less),
        (1300, false, Verdict::Within),
        (1301, false, Verdict::More),
        (500, false, Verdict::Within),
    ] {
        assert_eq!(Verdict::of(counted, 1000, is_same_rustc), verdict, "{counted} {is_same_rustc}");
    }
}
