//! Completions and the manual: docs/command-line.md, "The command line".

use std::collections::BTreeSet;

use crate::support::process::{Ended, run};

fn polecat(args: &[&str]) -> Ended {
    let ended = run(|command| {
        command.args(args);
    });
    assert!(ended.status.success() && ended.stderr.is_empty(), "{args:?}: {ended:?}");
    ended
}

/// The commands below `path`, according to its help.
fn commands(path: &[&str]) -> Vec<String> {
    let help = polecat(&[path, &["--help"]].concat()).stdout;
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let (list, _) = list.split_once("\n\n").expect("an end");
    let lines = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(' '));
    lines.map(|(name, _)| name.to_owned()).filter(|name| name != "help" && !name.is_empty()).collect()
}

/// Every command, as it is typed.
fn all() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for command in commands(&[]) {
        let below = commands(&[&command]);
        all.push(vec![command.clone()]);
        all.extend(below.into_iter().map(|name| vec![command.clone(), name]));
    }
    assert!(all.len() >= 14, "{all:?}");
    all
}

#[test]
fn completions_know_every_command_in_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = polecat(&["completions", shell]).stdout;
        for name in all().iter().flatten() {
            assert!(text.contains(name.as_str()), "{shell}: {name}");
        }
        for flag in ["idempotency-key", "heartbeat-interval", "from"] {
            assert!(text.contains(flag), "{shell}: {flag}");
        }
    }
    let wrong = run(|command| {
        command.args(["completions", "cmd"]);
    });
    assert_eq!((wrong.status.code(), wrong.stderr.len()), (Some(2), 1), "{wrong:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = all();
    let root = polecat(&["man"]).stdout;
    for command in &all {
        let words = command.iter().map(String::as_str).collect::<Vec<_>>();
        let page = polecat(&[&["man"], &words[..]].concat()).stdout;
        let name = format!("polecat-{}", words.join("-"));
        assert!(page.contains(&format!(".TH {name} 1")), "{name}: {page}");
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{name}");
        if let [word] = words[..] {
            assert!(root.contains(&format!("polecat\\-{word}(1)")), "{name}: {root}");
        }
        // It also has the help of each flag.
        let help = polecat(&[&words[..], &["--help"]].concat()).stdout;
        let flags =
            help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split_whitespace().next());
        for flag in flags {
            assert!(page.contains(&flag.replace('-', "\\-")), "{name}: {flag}");
        }
    }
    run(|command| {
        command.args(["man", "--all"]).arg(folder.path());
    });
    let files = std::fs::read_dir(folder.path()).expect("a folder").flatten();
    let files = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect::<BTreeSet<_>>();
    let names = all.iter().map(|words| format!("polecat-{}.1", words.join("-")));
    assert_eq!(files, names.chain(["polecat.1".to_owned()]).collect());
    let wrong = run(|command| {
        command.args(["man", "tail", "fly"]);
    });
    assert_eq!((wrong.status.code(), wrong.stderr.len()), (Some(1), 1), "{wrong:?}");
}
