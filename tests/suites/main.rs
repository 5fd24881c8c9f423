//! Public suites and real clients, each with its own network stack, against the binary. `install`, beside
//! this file, installs what a test needs. Without it the test is skipped with a message, or fails if
//! `POLECAT_NO_SKIP` is set.
#![expect(clippy::expect_used, reason = "tests fail aloud")]

use std::time::Duration;

mod autobahn;
mod clients;
mod compare;
mod curl;
#[expect(dead_code, reason = "the black-box tests use all of it")]
#[path = "../polecat/support/process.rs"]
mod process;
mod promtool;
#[path = "../polecat/support/skip.rs"]
mod skip;
mod strace;
mod tool;

/// How long a test waits for something that must happen before it fails. A passing test never waits for all
/// of it.
const PATIENCE: Duration = Duration::from_secs(60);
