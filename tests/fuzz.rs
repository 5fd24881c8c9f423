//! Replays the inputs that the fuzzers in `fuzz/` keep: the corpus of each target, and the inputs that once
//! found a fault.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks/mod.rs"]
mod checks;
#[path = "fuzz/talk.rs"]
mod talk;

/// The most bytes that are kept for one target.
const BYTES_MAX: u64 = 120 << 10;

/// Runs `check` with every file that is kept for a target.
fn replay(name: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let files = files(&fuzz.join("corpus").join(name));
    assert!(!files.is_empty(), "the corpus of {name} is missing");
    let bytes: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes in the corpus of {name}: minimise it");
    let regressions = self::files(&fuzz.join("regressions").join(name));
    for file in files.iter().chain(&regressions) {
        println!("{}", file.display());
        check(&fs::read(file).unwrap());
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn kept_requests_mean_the_same_however_they_are_cut() {
    replay("request", checks::request::check);
}

#[test]
fn kept_frames_are_decided_once() {
    replay("frames", checks::frames::check);
}

#[test]
fn kept_messages_are_understood_as_tungstenite_does() {
    replay("messages", checks::messages::check);
}

#[test]
fn kept_texts_are_sent_on_as_they_were_meant() {
    replay("json", checks::json::check);
}

#[test]
fn kept_talks_leave_a_sound_server() {
    replay("connection", checks::connection::check);
}
