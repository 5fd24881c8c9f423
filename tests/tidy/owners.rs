//! Who owns what in `src/server` and `src/hub`: fields of owners are private to their folders, methods of the server stand
//! in the files listed here and in no other, and names that were given up do not return.

use super::source::Source;

/// Structs that own state, and the folder whose files may see their fields.
const OWNERS: [(&str, &str); 10] = [
    ("Connections", "src/server/connections/"),
    ("Connection", "src/server/connections/"),
    ("Store", "src/server/store/"),
    ("History", "src/server/store/"),
    ("Server", "src/server/server.rs"),
    ("Lists", "src/server/http/"),
    ("Inspections", "src/server/http/"),
    ("Flusher", "src/server/session/"),
    ("Registry", "src/hub/"),
    ("Channel", "src/hub/"),
];

/// Where `Server` has methods: other code belongs to an owner, or is a function of the owners.
pub(crate) const SERVER: [&str; 1] = ["server.rs"];

/// Names that were replaced by the field's own, and those.
const REPLACED: [(&str, &str); 13] = [
    ("Exchange", "ResponseContext"),
    ("Arrivals", "AcceptTimes"),
    ("Closings", "RecentCloses"),
    ("Farewell", "CloseKind"),
    ("Facts", "ProcessStats"),
    ("Lap", "LoopTiming"),
    ("Laps", "LoopTimings"),
    ("Moment", "TurnTime"),
    ("Ask", "Pending"),
    ("Ticket", "QueryId"),
    ("Place", "EnvelopeContext"),
    ("Said", "Inbound"),
    ("Misunderstood", "ParseError"),
];

/// Fields of owners that other folders can see.
pub(crate) fn visible_fields(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (owner, folder) in OWNERS {
        if !source.path.starts_with(folder) {
            continue;
        }
        let mut is_inside = false;
        for (number, line) in source.code.lines().enumerate() {
            let is_beginning = line.contains("struct ") && {
                let name = line.split("struct ").nth(1).unwrap_or_default();
                name.split(|one: char| !one.is_alphanumeric()).next() == Some(owner)
            };
            is_inside = (is_inside || is_beginning) && !line.starts_with('}');
            let is_field = is_inside && !is_beginning && line.trim_start().starts_with("pub");
            if is_field && !line.trim_start().starts_with("pub(super) ") {
                let path = &source.path;
                faults.push(format!(
                    "{path}:{}: a field of {owner} is visible outside of {folder}",
                    number + 1
                ));
            }
        }
    }
    faults
}

/// Methods of the server in a file that is not listed, and files that are listed without any.
pub(crate) fn server_methods(source: &Source, listed: &[&str]) -> Vec<String> {
    let Some(name) = source.path.strip_prefix("src/server/") else { return Vec::new() };
    let lines = source.code.lines().filter(|line| line.starts_with("impl") && line.contains("Server<S>"));
    match (lines.count(), listed.contains(&name)) {
        (0, true) => {
            vec![format!("{}:1: it has no methods of the server any more: take it off the list", source.path)]
        }
        (1.., false) => {
            vec![format!("{}:1: methods of the server belong to an owner, or are functions", source.path)]
        }
        _ => Vec::new(),
    }
}

/// Names that were replaced.
pub(crate) fn replaced_names(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/server/") {
        return Vec::new();
    }
    let found = REPLACED.iter().flat_map(|(old, new)| {
        source.lines_with(old).into_iter().map(move |line| format!("{line}: {old} is {new} now"))
    });
    found.map(|fault| format!("{}:{fault}", source.path)).collect()
}
