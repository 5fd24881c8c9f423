//! The cases of the Autobahn test suite against the echo (PROTOCOL 6, 11), run
//! by the package `kosoku`. Chapters 12 and 13 are about compression: a sample of them, and
//! all with `POLECAT_AUTOBAHN=all`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::process::Process;
use crate::skip::say;
use crate::tool;

/// The chapters, each with its number of cases: 301 in all.
const CHAPTERS: [(&str, usize); 9] =
    [("1", 16), ("2", 11), ("3", 7), ("4", 10), ("5", 20), ("6", 145), ("7", 37), ("9", 54), ("10", 1)];

/// The messages of chapter 12 and the offers of chapter 13: each in the same 18 cases of sizes and fragments.
const COMPRESSED: [&str; 12] =
    ["12.1", "12.2", "12.3", "12.4", "12.5", "13.1", "13.2", "13.3", "13.4", "13.5", "13.6", "13.7"];

/// How many cases each of these has.
const SIZES: usize = 18;

/// Of each set, messages of 1 KiB. kosoku gives up a case that takes half a minute: those with fragments come near it on a
/// busy machine (`tests/polecat/compression.rs` sends fragments, and so does the simulator).
const SAMPLE: &str = "4";

/// Cases in which the suite accepts any behaviour; this server's is given as the code of its Close.
const INFORMATIONAL: [(&str, u64, &str); 3] = [
    ("7.1.6", 1000, "a long message, a Close, a Ping: all before the Close is echoed, and nothing after it"),
    ("7.13.1", 1002, "a Close with 5000, which no registry has: `close code is not legal` (PROTOCOL 11.6)"),
    ("7.13.2", 1002, "a Close with 65535: the same"),
];

#[test]
fn autobahn() {
    let kosoku = tool::folder().join("venv/bin/kosoku");
    if !tool::are_there(&[&kosoku]) {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let process = Process::serve(&home.path().join("polecat.db"), &["--max-message-bytes", "16777216"]);
    let chapters = CHAPTERS.map(|(chapter, _)| format!("{chapter}.*"));
    let cases = run_cases(&mut Command::new(kosoku), &process, &chapters);
    let faults = faults(&cases);
    assert!(faults.is_empty(), "{faults:#?}");
    let (all, informational) = (cases.len(), INFORMATIONAL.len());
    let ok = all - informational;
    say(&format!("autobahn: {all} cases, {ok} OK, {informational} INFORMATIONAL"));
}

#[test]
fn autobahn_compression() {
    let kosoku = tool::folder().join("venv/bin/kosoku");
    if !tool::are_there(&[&kosoku]) {
        return;
    }
    // It is run by its own Python, with a fault fixed that only compression shows.
    let python = tool::python();
    let mended = tool::beside("clients/kosoku_mended.py");
    let is_all = std::env::var("POLECAT_AUTOBAHN").is_ok_and(|which| which == "all");
    let home = tempfile::tempdir().expect("a temporary directory");
    let process = Process::serve(&home.path().join("polecat.db"), &[]);
    let mut all = 0;
    // Each set by itself: all of them together take longer than a suite may.
    for set in COMPRESSED {
        let include = [format!("{set}.{}", if is_all { "*" } else { SAMPLE })];
        let mut command = Command::new(&python);
        let cases = run_cases(command.arg("-B").arg(&mended), &process, &include);
        assert_eq!(cases.len(), if is_all { SIZES } else { 1 }, "cases of {set}: {cases:?}");
        let is_ok = |found: &Value| found["behavior"] == "OK" && found["behaviorClose"] == "OK";
        let faults = cases.iter().filter(|(_, found)| !is_ok(found)).collect::<Vec<_>>();
        assert!(faults.is_empty(), "{faults:#?}");
        all += cases.len();
    }
    say(&format!("autobahn_compression: {all} cases, all OK"));
}

/// Makes kosoku run these cases against the echo; returns the result of each. Its report is judged, and not its exit
/// status: it was seen to crash while it exits, after "1 cases passed".
fn run_cases(command: &mut Command, process: &Process, include: &[String]) -> BTreeMap<String, Value> {
    let report = tempfile::tempdir().expect("a temporary directory");
    for cases in include {
        command.args(["--include", cases]);
    }
    command.arg("--outdir").arg(report.path()).arg(format!("ws://{}/api/ws", process.addr()));
    let run = tool::run(command);
    let index = fs::read(report.path().join("index.json"));
    let index = index.unwrap_or_else(|error| panic!("{error}: {}: {}", run.status, run.output));
    let index =
        serde_json::from_slice::<BTreeMap<String, BTreeMap<String, Value>>>(&index).expect("a report");
    index.into_values().next().expect("a report on one server")
}

fn faults(cases: &BTreeMap<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    for (chapter, expected) in CHAPTERS {
        let found = cases.keys().filter(|case| case.split('.').next() == Some(chapter)).count();
        if found != expected {
            faults.push(format!("{found} cases of chapter {chapter}, not {expected}"));
        }
    }
    for (case, found) in cases {
        let expected = match INFORMATIONAL.iter().find(|(name, ..)| name == case) {
            Some((_, code, _)) => ("INFORMATIONAL", Some(*code)),
            None => ("OK", None),
        };
        let is_as_expected = found["behavior"] == expected.0
            && found["behaviorClose"] == expected.0
            && expected.1.is_none_or(|code| found["remoteCloseCode"] == code);
        if !is_as_expected {
            faults.push(format!("{case} should be {expected:?}: {found}"));
        }
    }
    faults
}

#[test]
fn whatever_is_not_ok_is_a_fault() {
    let case = |behavior: &str, code: u64| serde_json::json!({"behavior": behavior, "behaviorClose": behavior, "remoteCloseCode": code});
    let mut good = BTreeMap::new();
    for (chapter, count) in CHAPTERS {
        let of_table = INFORMATIONAL.iter().filter(|(name, ..)| name.split('.').next() == Some(chapter));
        good.extend(of_table.map(|(name, code, _)| ((*name).to_owned(), case("INFORMATIONAL", *code))));
        let mut names = (1..).map(|number| format!("{chapter}.0.{number}"));
        while good.keys().filter(|name| name.split('.').next() == Some(chapter)).count() < count {
            good.extend(names.next().map(|name| (name, case("OK", 1000))));
        }
    }
    assert_eq!(faults(&good), Vec::<String>::new());
    let worse =
        [("9.0.1", "NON-STRICT", 1000), ("1.0.1", "INFORMATIONAL", 1000), ("7.13.1", "INFORMATIONAL", 1000)];
    for (name, behavior, code) in worse {
        let mut cases = good.clone();
        cases.insert(name.to_owned(), case(behavior, code));
        assert_eq!(faults(&cases).len(), 1, "{name} {behavior}");
    }
    good.remove("10.0.1");
    assert_eq!(faults(&good).len(), 1);
}
