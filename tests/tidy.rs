//! The repository lints itself: the order of modules and what each may use, lengths, banned names with their
//! replacements, phrases, packages, files. Each check has a self-test in `tidy/bites.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "tidy/bites.rs"]
mod bites;
#[path = "tidy/faults.rs"]
mod faults;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/owners.rs"]
mod owners;
#[path = "tidy/phrases.rs"]
mod phrases;
#[path = "tidy/source.rs"]
mod source;

use floors::Floors;
use source::Source;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;
const TEST_FUNCTION_LINES_MAX: usize = 80;

/// Packages that the design is based on.
const PACKAGES: [&str; 8] =
    ["mio", "tungstenite", "httparse", "serde", "serde_json", "slab", "log", "simple_logger"];

/// Packages that are, or bring, an async runtime.
const RUNTIMES: [&str; 10] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "async-io",
    "futures-executor",
    "glommio",
    "monoio",
    "compio",
    "actix-rt",
];

/// Other servers, written in the style of the users of their packages.
const PEERS: &str = "benches/compare/peers";

/// The only tests that look at a clock: one to wait with patience, one to run for a given time.
const CLOCKS: [&str; 2] = ["tests/polecat/support/patience.rs", "tests/sim/main.rs"];

const CLOCK_INSTEAD: &str =
    "wait for a state (support/patience.rs), check times in the simulator, measure them in benches/";

/// The folders with code, apart from build output.
const CODE: [&str; 6] = ["src", "tests", "benches", "fuzz/checks", "fuzz/examples", "fuzz/fuzz_targets"];

/// The files that a reader expects at the top of the repository.
const TOP: [&str; 13] = [
    "README.md",
    "PROTOCOL.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "Cargo.toml",
    "Cargo.lock",
    ".ci/run",
    ".gitignore",
    "src/lib.rs",
    "tests/polecat/main.rs",
    "benches",
];

#[test]
fn modules_use_only_those_listed_before_them() {
    let sources = sources(&["src"]);
    let floors = Floors::of(&sources);
    assert!(floors.top().len() >= 5, "src/lib.rs lists the floors: {:?}", floors.top());
    assert_none(sources.iter().flat_map(|source| floors.faults(source)));
}

#[test]
fn no_files_use_one_another_in_a_circle() {
    let sources = sources(&["src"]);
    let circles = Floors::of(&sources).circles(&sources);
    assert_none(circles);
}

#[test]
fn the_list_of_a_folder_is_no_more_than_that() {
    assert_none(sources(&["src"]).iter().flat_map(lists));
}

#[test]
fn every_fault_for_the_simulator_can_be_planted() {
    let folder = root().join("tests/sim/faults");
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "fault"));
    let faults =
        files.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap_or_default()));
    let faults = faults.collect::<Vec<_>>();
    assert!(faults.len() > 30, "{} faults in tests/sim/faults", faults.len());
    let sources = sources(&["src"]);
    assert_none(faults.iter().flat_map(|(name, fault)| faults::stale(name, fault, &sources)));
}

#[test]
fn the_world_is_named_in_its_places_alone() {
    assert_none(sources(&["src"]).iter().flat_map(world));
}

#[test]
fn nothing_stands_in_the_code_that_is_banned() {
    assert_none(sources(&CODE).iter().flat_map(banned));
}

#[test]
fn files_and_functions_are_short() {
    assert_none(sources(&CODE).iter().flat_map(lengths));
}

#[test]
fn tests_neither_sleep_nor_look_at_a_clock_nor_fix_a_port() {
    assert_none(sources(&CODE).iter().flat_map(patience));
}

#[test]
fn no_tree_is_built_of_what_others_have_sent() {
    assert_none(sources(&["src"]).iter().flat_map(trees));
}

#[test]
fn no_async_runtime_is_in_the_dependency_tree() {
    assert_none(runtimes(&read("Cargo.lock")));
}

#[test]
fn the_packages_of_the_design_are_dependencies() {
    assert_none(packages(&read("Cargo.toml")));
}

#[test]
fn the_top_of_the_repository_is_complete() {
    let missing = TOP.iter().filter(|name| !root().join(name).exists());
    assert_none(missing.map(|name| format!("{name} is missing at the top of the repository")));
}

#[test]
fn sections_that_tests_cite_exist() {
    let headings = |file: &str| fs::read_to_string(root().join(file)).unwrap_or_default();
    assert_none(sources(&["tests"]).iter().flat_map(|source| citations(source, headings)));
}

#[test]
fn owners_keep_their_fields_and_the_server_its_methods() {
    let sources = sources(&["src"]);
    let of_server = |source: &Source| owners::server_methods(source, &owners::SERVER);
    assert_none(sources.iter().flat_map(owners::visible_fields));
    assert_none(sources.iter().flat_map(of_server));
    assert_none(sources.iter().flat_map(owners::replaced_names));
}

#[test]
fn documents_are_in_plain_english() {
    assert_none(phrases::DOCUMENTS.iter().flat_map(|path| phrases::of_document(path, &read(path))));
}

#[test]
fn comments_and_texts_are_in_plain_english() {
    assert_none(sources(&["src"]).iter().flat_map(phrases::of_source));
}

#[test]
fn every_section_of_the_protocol_is_tested() {
    let protocol = fs::read_to_string(root().join("PROTOCOL.md")).unwrap_or_default();
    assert_none(untested(&protocol, &sources(&["tests/polecat"])));
}

/// Code in the file that lists the modules of a folder.
fn lists(source: &Source) -> Vec<String> {
    // The fields of an owner are private to its folder.
    let has_owner = source.path.starts_with("src/server/");
    if has_owner || !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let items = ["fn", "struct", "enum", "impl", "trait", "type", "const", "static", "macro_rules"];
    let lines = items.iter().flat_map(|item| source.lines_with(item));
    let instead = "a folder's mod.rs is its table of contents; give it a file of its own";
    lines.map(|line| format!("{}:{line}: {instead}", source.path)).collect()
}

/// The only places that may use clocks, randomness, files, sockets and the environment.
const WORLDLY: [&str; 4] = ["src/shell/", "src/cli/", "src/store/sqlite/", "src/main.rs"];

/// Uses of clocks, randomness, files, sockets and the environment elsewhere.
fn world(source: &Source) -> Vec<String> {
    if WORLDLY.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let mut fault = |line: usize, name: &str, instead: &str| {
        faults
            .push(format!("{}:{line}: {name} belongs to the outside ({WORLDLY:?}); {instead}", source.path));
    };
    for (word, instead) in [
        ("mio", "be generic over Read + Write"),
        ("rusqlite", "ask the Engine"),
        ("socket2", "let the shell set up sockets"),
        ("signal_hook", "let the shell wait for signals"),
        ("rustix", "let the shell ask the system"),
        ("new_v4", "take random bits as an argument"),
        ("Instant", "take base::time::Now as an argument"),
        ("SystemTime", "take base::time::Now as an argument"),
        ("println!", "count it in the metrics, or use log"),
        ("eprintln!", "count it in the metrics, or use log"),
        ("print!", "count it in the metrics, or use log"),
        ("eprint!", "count it in the metrics, or use log"),
    ] {
        // A test prints its seed.
        let for_people = word.ends_with('!');
        for line in source.lines_with(word).into_iter().filter(|line| !for_people || !source.is_test(*line)) {
            fault(line, word, instead);
        }
    }
    for (line, path) in source.paths("std") {
        let instead = match path[0].as_str() {
            "net" => "be generic over Read + Write",
            "fs" => "ask the Engine",
            "env" => "take it from base::config",
            "process" => "return an error",
            "thread" => "do it in a turn of the loop",
            _ => continue,
        };
        fault(line, &format!("std::{}", path[0]), instead);
    }
    for (line, path) in source.paths("fastrand") {
        if path[0] != "Rng" || path.get(1).is_some_and(|name| name == "new") {
            fault(line, &format!("fastrand::{}", path[0]), "take an Rng with a seed as an argument");
        }
    }
    faults
}

/// Trees of JSON in code that reads bytes from others: a mebibyte of small values takes a quarter of a second
/// to build.
fn trees(source: &Source) -> Vec<String> {
    let is_shown_them =
        ["src/base/", "src/wire/", "src/store/engine.rs", "src/store/memory", "src/hub/", "src/server/"];
    if !is_shown_them.iter().any(|floor| source.path.starts_with(floor)) {
        return Vec::new();
    }
    let trees = source.paths("serde_json").into_iter().filter(|(line, path)| {
        !source.is_test(*line)
            && ["Value", "Map", "json", "value"].contains(&path[0].as_str())
            && path.last().is_some_and(|name| name != "RawValue")
    });
    trees
        .map(|(line, path)| {
            let path = path.join("::");
            format!(
                "{}:{line}: serde_json::{path} is a tree; read what is wanted with wire::json",
                source.path
            )
        })
        .collect()
}

/// Names that are banned everywhere, or everywhere except in tests.
fn banned(source: &Source) -> Vec<String> {
    let everywhere = [
        ("unsafe", "find a package that does it well"),
        ("async", "do it in a turn of the loop"),
        ("await", "do it in a turn of the loop"),
        ("todo!", "write it, or leave it out"),
        ("unimplemented!", "write it, or leave it out"),
        ("dbg!", "use log"),
    ];
    let outside_of_tests = [
        (".unwrap()", "return an error, or say why there is none by the types"),
        (".expect(", "return an error, or say why there is none by the types"),
        ("panic!", "assert what must hold, or return an error"),
    ];
    let mut faults = Vec::new();
    for (words, spares_tests) in [(&everywhere[..], false), (&outside_of_tests, true)] {
        for (word, instead) in words {
            for line in source.lines_with(word) {
                if !(spares_tests && source.is_test(line)) {
                    faults.push(format!("{}:{line}: {word} is banned; {instead}", source.path));
                }
            }
        }
    }
    faults
}

fn lengths(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let name = &source.path;
        faults.push(format!(
            "{name}: {lines} lines, at most {FILE_LINES_MAX}; move a noun to a file of its own"
        ));
    }
    for function in source.functions() {
        let most = if function.is_test { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        if function.lines > most {
            let (name, line, lines) = (function.name, function.line, function.lines);
            let place = format!("{}:{line}", source.path);
            faults.push(format!(
                "{place}: {name} has {lines} lines, at most {most}; branch in the parent, loop in the leaf"
            ));
        }
    }
    faults
}

/// Waiting for time instead of for an event, dependence on the speed of the machine, and ports that may be
/// taken.
fn patience(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: &str, instead: &str| {
        faults.push(format!("{}:{line}: {what}; {instead}", source.path));
    };
    let mut sleeps = source.lines_with("thread::sleep");
    sleeps.extend(source.lines_with("park_timeout"));
    let imported = source.paths("std").into_iter().filter(|(_, path)| path.ends_with(&["sleep".to_owned()]));
    sleeps.extend(imported.map(|(line, _)| line));
    sleeps.sort_unstable();
    sleeps.dedup();
    for line in sleeps {
        fault(line, "it sleeps", "wait for what must happen, with a time-out");
    }
    if !CLOCKS.contains(&source.path.as_str()) && !source.path.starts_with("benches") {
        for word in ["Instant", "SystemTime", "elapsed"] {
            for line in source.lines_with(word).into_iter().filter(|line| source.is_test(*line)) {
                fault(line, &format!("it looks at a clock ({word})"), CLOCK_INSTEAD);
            }
        }
    }
    if source.path.starts_with("src/") {
        return faults;
    }
    for (number, line) in source.text.lines().enumerate() {
        let of_host =
            ["127.0.0.1:", "0.0.0.0:", "localhost:", "[::1]:", "[::]:", "[127, 0, 0, 1], ", "LOCALHOST, "];
        for host in of_host {
            // The value of a header is nobody's address.
            let is_said =
                |place: usize| ["://", "Host: "].iter().any(|before| line[..place].ends_with(before));
            let places = line.match_indices(host).map(|(place, _)| place).filter(|place| !is_said(*place));
            let mut ports = places.map(|place| &line[place + host.len()..]);
            if ports.any(|port| port.starts_with(|first: char| ('1'..='9').contains(&first))) {
                fault(number + 1, "a fixed port", "listen on port 0 and ask which it is");
            }
        }
    }
    faults
}

fn runtimes(lock: &str) -> Vec<String> {
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let runtimes = names.filter(|name| RUNTIMES.contains(name));
    runtimes
        .map(|name| format!("Cargo.lock: {name} is an async runtime; there is one hand-written loop"))
        .collect()
}

fn packages(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("dependencies]"));
    let lines = section.unwrap_or_default().lines();
    let names = lines.filter_map(|line| Some(line.split_once('=')?.0.trim())).collect::<Vec<_>>();
    let missing = PACKAGES.iter().filter(|name| !names.contains(name));
    missing.map(|name| format!("Cargo.toml: {name} is missing, on which the design stands")).collect()
}

/// Citations of the form `FILE.md, "Heading"` whose heading the file does not have.
fn citations(source: &Source, document: impl Fn(&str) -> String) -> Vec<String> {
    let mut faults = Vec::new();
    let documents = ["PROTOCOL.md", "ARCHITECTURE.md", "README.md"];
    let readers = ["docs/operating.md", "docs/command-line.md", "docs/clients.md", "docs/load.md"];
    for file in documents.into_iter().chain(readers) {
        let start = format!("{file}, \"");
        for (place, _) in source.text.match_indices(&start) {
            let heading = source.text[place + start.len()..].split('"').next().unwrap_or_default();
            let text = document(file);
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            if !headings.any(|line| line.trim_start_matches('#').trim() == heading) {
                let line = source.line_of(place);
                faults.push(format!("{}:{line}: {file} has no section {heading:?}", source.path));
            }
        }
    }
    faults
}

/// Sections of the protocol that no test cites.
fn untested(protocol: &str, sources: &[Source]) -> Vec<String> {
    let headings = protocol.lines().filter_map(|line| line.strip_prefix("## "));
    let is_cited =
        |heading: &str| sources.iter().any(|source| source.text.contains(&format!("\"{heading}\"")));
    headings
        .filter(|heading| !is_cited(heading))
        .map(|heading| format!("PROTOCOL.md: no test in tests/polecat cites {heading:?}"))
        .collect()
}

fn assert_none(faults: impl IntoIterator<Item = String>) {
    let mut list = String::new();
    for fault in faults {
        writeln!(list, "{fault}").unwrap_or_default();
    }
    assert!(list.is_empty(), "\n{list}");
}

/// All Rust files below `folders`, without those of other servers; a folder that does not exist has none.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(Path::new(folder), &mut paths);
    }
    paths.sort();
    assert!(!paths.is_empty(), "no source below {folders:?}");
    paths.iter().map(|path| Source::new(path, &read(path))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<String>) {
    if folder == Path::new(PEERS) {
        return;
    }
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries.flatten() {
        let path = folder.join(entry.file_name());
        if root().join(&path).is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let names = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
            paths.push(names.collect::<Vec<_>>().join("/"));
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
