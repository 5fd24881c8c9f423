//! Public suites and real clients, each through its own stack, against the
//! binary. What a test needs is brought by `install`, beside this file; without
//! it the test is skipped aloud, or fails where `POLECAT_NO_SKIP` is set.
#![expect(clippy::expect_used, reason = "tests fail aloud")]

use std::time::Duration;

mod accepting;
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
mod tool;

/// How long a test waits for something that must happen before it fails. It is
/// never waited out by a test that passes.
const PATIENCE: Duration = Duration::from_secs(60);
