//! The tools that a test needs, and a run of one of them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::skip::skip;

/// How long a whole suite or client may take. None comes near it.
const PATIENCE: Duration = Duration::from_secs(600);

/// The output of a tool on stdout and stderr, and its exit status.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// The folder into which `install` puts what is not a package of the system.
pub(crate) fn folder() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    std::env::var_os("POLECAT_TOOLS").map_or_else(default, PathBuf::from)
}

pub(crate) fn python() -> PathBuf {
    folder().join("venv/bin/python")
}

/// A file beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites").join(name)
}

/// Whether everything that a test needs exists: each a file, or a program in the path.
pub(crate) fn are_there(needed: &[&Path]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_missing = |tool: &&&Path| match tool.components().count() {
        1 => !std::env::split_paths(&path).any(|folder| folder.join(tool).exists()),
        _ => !tool.exists(),
    };
    let missing = needed.iter().filter(is_missing).map(|tool| tool.display().to_string()).collect::<Vec<_>>();
    if missing.is_empty() {
        return true;
    }
    skip(&format!("{} is missing; tests/suites/install brings it", missing.join(", ")));
    false
}

/// Runs a tool to its end, and ends the processes that it leaves behind.
pub(crate) fn run(command: &mut Command) -> Run {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let path = scratch.path().join("output");
    let output = File::create(&path).expect("a file can be made");
    command.stdin(Stdio::null()).stderr(output.try_clone().expect("a file can be shared")).stdout(output);
    // A process group of its own, so that its children can be ended with it; and no proxy.
    command.process_group(0).env("NO_PROXY", "*").env("no_proxy", "*");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let group = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()).ok());
    let status = ended.recv_timeout(PATIENCE);
    kill_process_group(group, Signal::KILL).ok();
    let output = String::from_utf8_lossy(&fs::read(&path).expect("the output can be read")).into_owned();
    let status = status.unwrap_or_else(|_| panic!("{command:?} does not end: {output}"));
    Run { status: status.expect("a child can be waited for"), output }
}

#[test]
fn a_tool_that_fails_is_told_from_one_that_does_not() {
    let fails = run(Command::new("sh").args(["-c", "echo aloud; exit 3"]));
    assert!(fails.status.code() == Some(3) && fails.output == "aloud\n", "{fails:?}");
    assert!(run(Command::new("sh").args(["-c", "exit 0"])).status.success());
}
