//! The flags of `polecat doctor`, and its output.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::format::{Part, Style};
use super::super::terminal::print;
use super::finding::{Finding, Level};
use super::{database, system};

/// The flags of `polecat doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is ok, warn, bad, or unknown (if the system does not tell); below it is the command that \
    changes it. Run it as the user that runs the server: limits and permissions depend on the user.\n\n\
    Examples:\n  \
    polecat doctor\n  \
    polecat doctor --db /var/lib/polecat/polecat.db --connections 100000\n  \
    polecat doctor --json\n\n\
    Exit status: 0 if nothing is bad; 1 if something is; 2 for a wrong command line."
)]
pub(in crate::cli) struct Doctor {
    /// The server's database file; off if it has none
    #[arg(long = "db", value_name = "FILE", env = "POLECAT_DB", default_value = "polecat.db")]
    database: PathBuf,

    /// Connections that the server must have room for
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    connections: u64,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'f> {
    worst: Level,
    checks: &'f [Finding],
}

impl Doctor {
    pub(in crate::cli) fn run(&self) -> Result<bool, String> {
        let mut findings = system::findings(self.connections);
        findings.extend(database::findings(&self.database));
        let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Unknown);
        let text = if self.json {
            let report = Report { worst, checks: &findings };
            serde_json::to_string(&report).map_err(|error| error.to_string())? + "\n"
        } else {
            table(&findings, Style::of_stdout())
        };
        print(&text)?;
        Ok(worst != Level::Bad)
    }
}

fn table(findings: &[Finding], style: Style) -> String {
    let mut out = String::new();
    for finding in findings {
        let (part, word) = match finding.level {
            Level::Unknown => (Part::Faint, "unknown"),
            Level::Ok => (Part::Good, "ok"),
            Level::Warn => (Part::Doubtful, "warn"),
            Level::Bad => (Part::Bad, "bad"),
        };
        style.push(part, &format!("{word:<8}"), &mut out);
        style.push(Part::Name, &format!("{:<14}", finding.name), &mut out);
        style.push(Part::Plain, &finding.text, &mut out);
        out.push('\n');
        if let Some(command) = &finding.command {
            style.push(Part::Faint, &format!("{:22}→ ", ""), &mut out);
            style.push(Part::Plain, command, &mut out);
            out.push('\n');
        }
    }
    out
}
