//! The cases of the Autobahn test suite against the echo (PROTOCOL 6, 11), run
//! by the package `kosoku`. Chapters 12 and 13 are about compression.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::process::Process;
use crate::skip::say;
use crate::tool;

/// The chapters, each with its number of cases: 301 in all.
const CHAPTERS: [(&str, usize); 9] =
    [("1", 16), ("2", 11), ("3", 7), ("4", 10), ("5", 20), ("6", 145), ("7", 37), ("9", 54), ("10", 1)];

/// Cases of which the suite judges nothing, whatever a server does; what this
/// one does, as the code of its Close.
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
    let begun = Instant::now();
    let mut command = Command::new(kosoku);
    for (chapter, _) in CHAPTERS {
        command.args(["--include", &format!("{chapter}.*")]);
    }
    command.arg("--outdir").arg(home.path()).arg(format!("ws://{}/api/ws", process.addr()));
    let run = tool::run(&mut command);
    let index =
        fs::read(home.path().join("index.json")).unwrap_or_else(|error| panic!("{error}: {}", run.output));
    let index =
        serde_json::from_slice::<BTreeMap<String, BTreeMap<String, Value>>>(&index).expect("a report");
    let cases = index.into_values().next().expect("a report on one server");
    let faults = faults(&cases);
    assert!(faults.is_empty() && run.is_success, "{faults:#?}\n{}", run.output);
    let (all, informational) = (cases.len(), INFORMATIONAL.len());
    let ok = all - informational;
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!("autobahn: {all} cases, {ok} OK, {informational} INFORMATIONAL, in {seconds:.1} s"));
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
