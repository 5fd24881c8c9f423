//! What a system cannot show is skipped aloud.

use std::io::{self, Write as _};

/// Says that the test, or the rest of it, is skipped. Where nothing may be, it fails.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var_os("POLECAT_NO_SKIP").is_none(), "{test}: {why}, and nothing may be skipped");
    say(&format!("SKIPPED: {test}: {why}"));
}

/// Says it on stderr, also where the test passes: what `eprintln` writes is then thrown away.
pub(crate) fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}
