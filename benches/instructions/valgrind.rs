//! Runs this program again, under callgrind.

use std::process::{Child, Command, Stdio};

use crate::paths::Path;

/// The file of the annotated profile, in the folder for temporary files.
const PROFILE: &str = "polecat-instructions.callgrind";

pub(crate) fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Instructions of one operation.
pub(crate) fn count(path: &Path) -> Result<u64, String> {
    // Both at once: usually there are two processors.
    let once = begin(path, path.times, "/dev/null")?;
    let twice = begin(path, path.times * 2, "/dev/null")?;
    let (once, twice) = (finish(path, once)?, finish(path, twice)?);
    Ok(twice.saturating_sub(once) / u64::from(path.times * path.operations))
}

/// Prints which functions take the most, including the work before the operations.
pub(crate) fn annotate(path: &Path) -> Result<(), String> {
    let profile = std::env::temp_dir().join(PROFILE);
    let profile = profile.to_string_lossy();
    finish(path, begin(path, path.times, &profile)?)?;
    let status = Command::new("callgrind_annotate").args(["--auto=no", &profile]).status();
    status.map(drop).map_err(|error| format!("callgrind_annotate: {error}"))
}

fn begin(path: &Path, times: u32, profile: &str) -> Result<Child, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={profile}")])
        .arg(this)
        .args(["run", path.name, &times.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("valgrind: {error}"))
}

/// How many instructions were counted.
fn finish(path: &Path, child: Child) -> Result<u64, String> {
    let output = child.wait_with_output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // "==1234== Collected : 5678"
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{} under valgrind: {}\n{said}", path.name, output.status)),
    }
}
