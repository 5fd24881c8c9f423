//! The faults that the simulator must catch, and whether each can still be planted.

use super::source::Source;

/// The changes of a fault whose lines are not found exactly once in the source: see `tests/sim/faults/plant`.
pub(crate) fn stale(name: &str, fault: &str, sources: &[Source]) -> Vec<String> {
    let mut stale = Vec::new();
    for change in fault.split("\n\n").skip(1) {
        let old = change.lines().filter(|line| !line.starts_with('+'));
        let old = old.map(|line| line.get(2..).unwrap_or_default().trim()).collect::<Vec<_>>();
        let places = sources.iter().map(|source| places(source, &old)).sum::<usize>();
        if places != 1 {
            stale.push(format!("{name}: what it changes is at {places} places, write it anew: {old:?}"));
        }
    }
    stale
}

fn places(source: &Source, old: &[&str]) -> usize {
    let lines = source.text.lines().map(str::trim).collect::<Vec<_>>();
    (0..lines.len()).filter(|at| !old.is_empty() && lines[*at..].starts_with(old)).count()
}
