//! Tests that a system cannot run are skipped with a message.

use std::io::{self, Write as _};

/// Reports that the test, or the rest of it, is skipped. If skipping is forbidden, it fails.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os("POLECAT_NO_SKIP").is_none(), "{test}: {why}, and nothing may be skipped");
    say(&format!("SKIPPED: {test}: {why}"));
}

/// Prints a line on stderr even if the test passes: the output of `eprintln` is then discarded.
pub(crate) fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
