//! What the documents list is what there is, and the other way round: docs/operating.md, "Flags", and
//! PROTOCOL.md, "13. Tables".

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use polecat::wire::http::status::Status;
use polecat::wire::websocket::codec::CloseCode;

use crate::support::process::run;
use crate::support::socket::message;
use crate::support::{Home, Http, Process, Socket, get, post};

const README: &str = include_str!("../../README.md");
const OPERATING: &str = include_str!("../../docs/operating.md");
const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

/// A flag as it is described, or the heading of a group of them.
#[derive(Debug, PartialEq, Eq)]
enum Described {
    Heading(String),
    Flag { name: String, value: String, default: String, text: String },
}

#[test]
fn the_table_and_help_say_the_same_of_every_flag() {
    let help = run(|command| {
        command.args(["serve", "--help"]);
    });
    let (helped, listed) = (flags_of_help(&help.stdout), flags_of_table());
    for (of_help, of_readme) in helped.iter().zip(&listed) {
        assert_eq!(of_help, of_readme, "left: --help, right: docs/operating.md");
    }
    assert_eq!(helped.len(), listed.len(), "{helped:#?}\n{listed:#?}");
    assert!(helped.len() > 30, "{helped:#?}");
}

#[test]
fn the_alarms_that_are_recommended_are_of_what_there_is_and_silent_in_normal_use() {
    let rules = OPERATING.split("```yaml\n").find(|block| block.starts_with("groups:")).expect("the rules");
    let rules = rules.split("```").next().expect("their end");
    let home = Home::new();
    let flags = ["--max-log-bytes", "1000", "--max-logs-bytes", "2000", "--idle-timeout", "0.1"];
    let process = Process::serve(&home.database(), &flags);
    let mut idle = Http::connect(process.addr());
    idle.get("/api/health").ok();
    let mut subscriber = Socket::connect(process.addr(), "/api/ws/room");
    for number in 0..20 {
        post(
            process.addr(),
            "/api/messages",
            &message("room", "a", &format!("{number} {}", "x".repeat(200))),
        )
        .ok();
        subscriber.next_data();
    }
    idle.expect_end();
    let metrics = get(process.addr(), "/metrics").text().to_owned();
    let hits = |limit: &str| {
        let start = format!("polecat_limit_hits_total{{limit=\"{limit}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("there is no limit {limit:?}")).to_owned()
    };
    for busy in ["log_bytes", "idle_time"] {
        assert_ne!(hits(busy), "0", "{busy} is run into in normal use");
    }
    let limits = rules.split_once("limit=~\"").and_then(|(_, rest)| rest.split_once('"')).expect("limits").0;
    for limit in limits.split('|') {
        assert_eq!(hits(limit), "0", "{limit} would alarm in normal use");
    }
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let words = rules.split(|letter: char| !is_name(letter));
    let names = words.filter(|word| word.starts_with("polecat_") || word.starts_with("process_"));
    let names = names.collect::<BTreeSet<_>>();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} is none of the metrics");
    }
}

#[test]
fn the_flags_that_documents_name_exist() {
    let commands = [&["serve"][..], &["load", "idle"], &["load", "echo"], &["load", "fanout"]];
    let more = [&["load", "publish"][..], &["load", "storm"]];
    let mut known = BTreeSet::from(["--version".to_owned()]);
    let clients = [
        &["tail"][..],
        &["send"],
        &["event"],
        &["status"],
        &["doctor"],
        &["backup"],
        &["completions"],
        &["man"],
    ];
    for words in commands.iter().chain(&more).chain(&clients) {
        let help = run(|command| {
            command.args(*words).arg("--help");
        });
        known.extend(flags_in(&help.stdout));
    }
    // Those of curl and cargo.
    let foreign = [
        "--json",
        "--fail",
        "--retry",
        "--retry-connrefused",
        "--compressed",
        "--release",
        "--locked",
        "--path",
    ];
    known.extend(foreign.map(str::to_owned));
    let documents = [
        ("README.md", README),
        ("PROTOCOL.md", PROTOCOL),
        ("docs/operating.md", OPERATING),
        ("docs/command-line.md", include_str!("../../docs/command-line.md")),
        ("docs/clients.md", include_str!("../../docs/clients.md")),
        ("docs/load.md", include_str!("../../docs/load.md")),
    ];
    for (name, document) in documents {
        let unknown = flags_in(document).into_iter().filter(|flag| !known.contains(flag));
        assert_eq!(unknown.collect::<Vec<_>>(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_files_that_documents_name_are_there() {
    const FOLDERS: [&str; 7] = ["contrib/", "docs/", "src/", "tests/", "benches/", "fuzz/", ".ci/"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_part = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    let mut found = 0;
    let documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "PROTOCOL.md", "tests/README.md"];
    let readers = ["docs/operating.md", "docs/command-line.md", "docs/clients.md", "docs/load.md"];
    for document in documents.into_iter().chain(readers) {
        let text = std::fs::read_to_string(root.join(document)).expect("a document");
        let words = text.split(|character| !is_part(character)).map(|word| word.trim_end_matches('.'));
        for word in words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
            // What stands for a name is none.
            let name = word.strip_suffix("TARGET/").unwrap_or(word);
            // The fuzzers create it if they find something.
            assert!(root.join(name).exists() || name == "fuzz/artifacts/", "{document} names {word}");
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}

#[test]
fn the_statuses_are_those_of_the_table() {
    // It is an interim status, and so has no constant.
    const CONTINUE: u16 = 100;
    let sent = Status::ALL.iter().map(|status| status.code()).chain([CONTINUE]).collect::<BTreeSet<_>>();
    assert_eq!(codes_of("### 13.1 Statuses"), sent);
}

#[test]
fn the_close_codes_are_those_of_the_table() {
    let numbers = (1000..5000).map(|code| (format!("{:?}", CloseCode::from(code)), code));
    let numbers = numbers.collect::<BTreeMap<_, _>>();
    let mut sent = BTreeSet::new();
    for source in sources(&["src/server", "src/wire"]) {
        for named in source.split("CloseCode::").skip(1) {
            let mut words = named.split(|character: char| !character.is_alphanumeric());
            let code = match (words.next(), words.next()) {
                // If it is not a number, it is the client's own code, which is sent back.
                (Some("from"), Some(code)) => code.parse().ok(),
                (Some(name), _) => Some(numbers[name]),
                _ => None,
            };
            sent.extend(code);
        }
    }
    assert_eq!(codes_of("### 13.2 Close codes that the server sends"), sent);
}

/// The code below `folders`, without its tests.
fn sources(folders: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = folders.iter().map(|folder| root.join(folder)).collect::<Vec<_>>();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).expect("a file");
                sources.push(text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
            }
        }
    }
    sources
}

/// The numbers in the first column of the table under `heading`.
fn codes_of(heading: &str) -> BTreeSet<u16> {
    let (_, section) = PROTOCOL.split_once(heading).expect("a section");
    let (section, _) = section.split_once("\n### ").expect("another one");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.filter_map(|cell| cell.parse().ok()).collect()
}

/// All words that begin with two hyphens and a letter.
fn flags_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '-'));
    let is_flag =
        |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
    words.filter(is_flag).map(str::to_owned).collect()
}

/// The rows of the table of flags, without its markup.
fn flags_of_table() -> Vec<Described> {
    let (_, section) = OPERATING.split_once("\n## Flags\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another one");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.skip_while(|row| !row.starts_with("---"))
        .skip(1)
        .map(|row| {
            let row = row.replace("**", "").replace('`', "");
            let cells = row.split('|').map(str::trim).collect::<Vec<_>>();
            match cells[..] {
                [heading, "", ""] => Described::Heading(heading.to_owned()),
                [flag, default, text] => {
                    let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
                    let [name, value, default, text] = [name, value, default, text].map(str::to_owned);
                    Described::Flag { name, value, default, text }
                }
                _ => panic!("a row of three cells: {row}"),
            }
        })
        .collect()
}

/// The entries of `--help`, each without its variable, which is checked.
fn flags_of_help(help: &str) -> Vec<Described> {
    let (_, options) = help.split_once("\nOptions:\n").expect("options");
    let mut described = Vec::new();
    let mut flag = None::<String>;
    for line in options.lines() {
        let heading = line.strip_suffix(':').filter(|heading| !heading.starts_with(' '));
        // A flag is indented by six, and its text by more.
        let begun = line.strip_prefix("      --");
        if heading.is_some() || begun.is_some() || line.starts_with("  -h,") {
            described.extend(flag.take().map(|flag| flag_of_help(&flag)));
        }
        if let Some(heading) = heading {
            described.push(Described::Heading(heading.to_owned()));
        } else if let Some(begun) = begun {
            flag = Some(begun.to_owned());
        } else if let Some(flag) = &mut flag {
            *flag += line;
        }
    }
    described.extend(flag.map(|flag| flag_of_help(&flag)));
    described
}

fn flag_of_help(flag: &str) -> Described {
    let flag = flag.split_whitespace().collect::<Vec<_>>().join(" ");
    // A switch has no value.
    let (name, rest) = flag.split_once(' ').expect("a text");
    let (value, text) = match rest.strip_prefix('<') {
        Some(rest) => rest.split_once("> ").expect("the end of a value"),
        None => ("", rest),
    };
    let (said, notes) = text.split_once(" [").expect("a variable");
    let notes = notes.trim_end_matches(']').split("] [").collect::<Vec<_>>();
    let variable = format!("env: POLECAT_{}=", name.replace('-', "_").to_ascii_uppercase());
    assert!(notes.contains(&variable.as_str()), "{variable} is not in {flag:?}");
    let default = notes.iter().find_map(|note| note.strip_prefix("default: ")).unwrap_or_default();
    // In the table, the text begins with a small letter.
    let (first, others) = said.split_at(1);
    Described::Flag {
        name: format!("--{name}"),
        value: value.to_owned(),
        default: default.to_owned(),
        text: first.to_lowercase() + others,
    }
}
