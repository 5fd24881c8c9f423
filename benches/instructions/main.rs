//! How many instructions the hot paths take, counted by callgrind and compared with `recorded.txt`:
//! `cargo bench --profile instructions --bench instructions`. A count does not depend on the other load of
//! the machine. Each path is run N and 2N times, in separate processes. The difference is the cost of N
//! operations, since the work before them is the same in both. `cargo test` runs each path a few times,
//! without counting.

#![expect(clippy::print_stdout, reason = "it prints its table")]

mod mock_server;
mod mirror;
mod paths;
mod recorded;
mod valgrind;

use std::io::{self, Write as _};
use std::process::ExitCode;

use paths::{PATHS, Path};
use recorded::{Recorded, Toolchain, Verdict};

/// The command that records the counts.
const RECORD: &str = "cargo bench --profile instructions --bench instructions -- record";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").collect::<Vec<_>>();
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let outcome = match arguments[..] {
        ["run", name, times] => run(name, times),
        ["record"] => count().and_then(|counts| recorded::write(&Toolchain::of_this()?, &counts)),
        ["annotate", name] => find(name).and_then(valgrind::annotate),
        _ if is_bench => guard(),
        _ => rehearse(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("instructions: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line on stderr.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

fn find(name: &str) -> Result<&'static Path, String> {
    PATHS.iter().find(|path| path.name == name).ok_or_else(|| format!("there is no path {name:?}"))
}

fn run(name: &str, times: &str) -> Result<(), String> {
    let times = times.parse().map_err(|error| format!("{times:?} is no number: {error}"))?;
    (find(name)?.run)(times);
    Ok(())
}

/// Runs every path, and checks the comparison.
fn rehearse() -> Result<(), String> {
    recorded::check_verdicts();
    let recorded = Recorded::read()?;
    for path in &PATHS {
        (path.run)(path.times.min(10));
        recorded.of(path.name).ok_or_else(|| format!("{} is not recorded: {RECORD}", path.name))?;
    }
    Ok(())
}

/// Instructions of one operation of each path.
fn count() -> Result<Vec<(&'static str, u64)>, String> {
    let counts = PATHS.iter().map(|path| {
        let count = valgrind::count(path)?;
        Ok((path.name, count))
    });
    counts.collect()
}

/// Counts, and fails if a count differs from the recorded one.
fn guard() -> Result<(), String> {
    if !valgrind::is_there() {
        if std::env::var_os("POLECAT_NO_SKIP").is_some() {
            return Err("valgrind is missing, and must not be".to_owned());
        }
        say("SKIPPED: instructions are not counted: valgrind is missing");
        return Ok(());
    }
    let recorded = Recorded::read()?;
    let toolchain = Toolchain::of_this()?;
    if toolchain.machine != recorded.toolchain.machine {
        let (here, there) = (&toolchain.machine, &recorded.toolchain.machine);
        say(&format!("SKIPPED: instructions are not judged: recorded on {there:?}, this is {here:?}"));
        return Ok(());
    }
    let is_same = toolchain.rustc == recorded.toolchain.rustc;
    if !is_same {
        let (here, there) = (&toolchain.rustc, &recorded.toolchain.rustc);
        say(&format!("recorded with {there}, this is {here}: judged roughly; record anew: {RECORD}"));
    }
    println!("{:<24}{:>12}{:>12}{:>9}", "path", "counted", "recorded", "change");
    let mut faults = 0;
    for (name, counted) in count()? {
        let Some(before) = recorded.of(name) else {
            println!("{name:<24}{counted:>12}{:>12}", "none");
            faults += 1;
            continue;
        };
        let verdict = Verdict::of(counted, before, is_same);
        let percent = recorded::percent(counted, before);
        println!("{name:<24}{counted:>12}{before:>12}{percent:>+8.1}%{}", verdict.words());
        faults += u32::from(verdict != Verdict::Within);
    }
    if faults == 0 {
        return Ok(());
    }
    Err(format!(
        "{faults} of {} paths are not as recorded. Where it takes more, look why (-- annotate PATH); \
         where that is meant, or it takes less, record it: {RECORD}",
        PATHS.len()
    ))
}
