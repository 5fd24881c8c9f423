//! The results of all runs together, and whether they covered everything.

use std::collections::BTreeMap;
use std::fmt;

use polecat::base::limit::Limit;
use polecat::server::connections::CloseReason;

use crate::swarm::Report;

/// Counters of the shell: here there are no descriptors, and no connection is lost before it is accepted.
const OF_THE_SHELL: [&str; 2] = ["limit descriptors", "lost"];

/// An outcome that the random clients do not cause: they send little at once, and so never hold room that
/// others wait for. `room.rs` causes it.
const OF_DIRECTED_TESTS: &str = "closed for Unsent";

#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) runs: u64,
    pub(crate) socket_events: u64,
    crashes: u64,
    deploys: u64,
    returns: u64,
    resumes_across_terms: u64,
    gaps_of_terms: u64,
    records: u64,
    counters: BTreeMap<String, u64>,
}

impl Total {
    pub(crate) fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.socket_events += report.socket_events;
        self.crashes += report.crashes;
        self.deploys += report.deploys;
        self.returns += report.returns;
        self.resumes_across_terms += report.resumes_across_terms;
        self.gaps_of_terms += report.gaps_of_terms;
        self.records += report.records;
        for metrics in &report.metrics {
            for (name, count) in metrics.counters() {
                *self.counters.entry(name.to_owned()).or_default() += count;
            }
            for reason in CloseReason::ALL {
                let name = format!("closed for {reason:?}");
                *self.counters.entry(name).or_default() += metrics.closed_for(reason);
            }
            for limit in Limit::ALL {
                let name = format!("limit {}", limit.name());
                *self.counters.entry(name).or_default() += metrics.limits.of(*limit);
            }
        }
    }

    /// A simulation that never reaches some code proves nothing about it.
    pub(crate) fn check_coverage(&self) {
        assert!(self.crashes > 0, "no server crashed");
        assert!(self.deploys > 0, "no server was followed by another");
        assert!(self.returns > 0, "no disk went back");
        assert!(self.resumes_across_terms > 0, "nobody resumed after a restart");
        assert!(self.gaps_of_terms > 0, "nobody was told that the disk went back");
        for (name, count) in &self.counters {
            let is_elsewhere = OF_THE_SHELL.contains(&name.as_str()) || name == OF_DIRECTED_TESTS;
            assert!(*count > 0 || is_elsewhere, "{name} never came up");
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, socket_events, crashes, deploys, returns, records, counters, .. } = self;
        let Self { resumes_across_terms, gaps_of_terms, .. } = self;
        writeln!(
            out,
            "{runs} runs, {socket_events} socket events, {crashes} crashes, {deploys} deploys, {returns} returns of \
             the disk, {resumes_across_terms} resumes across terms, {gaps_of_terms} gaps of terms, {records} records"
        )?;
        for (name, count) in counters {
            writeln!(out, "{count:>12} {name}")?;
        }
        Ok(())
    }
}
