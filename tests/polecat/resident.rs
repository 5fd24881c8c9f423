//! The memory of an idle connection in a real server. ARCHITECTURE.md, "Four ideas".

use rustix::process::{Resource, getrlimit};

use crate::support::process::run;
use crate::support::{Process, skip};

const CONNECTIONS: u64 = 10_000;

/// A cache line, its slot in its channel, and the spare capacity of pages and vectors.
const BYTES_PER_CONNECTION_MAX: f64 = 100.0;

/// Descriptors of the test itself, and of the two processes.
const DESCRIPTORS_TO_SPARE: u64 = 64;

#[test]
fn an_idle_connection_is_resident_with_100_bytes_at_most() {
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if descriptors < CONNECTIONS + DESCRIPTORS_TO_SPARE {
        skip(&format!("{CONNECTIONS} connections; the system allows {descriptors} descriptors"));
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary directory");
    let server = Process::serve(&folder.path().join("polecat.db"), &[]);
    if server.memory().is_none() {
        skip("there is no /proc to see memory in");
        return;
    }
    let url = format!("ws://{}/api/ws/room", server.addr());
    // Memory that the first connections need once, mostly pages of code, belongs to no connection.
    load(&url, 500);
    let report = load(&url, CONNECTIONS);
    let open = report["server"]["resident_bytes_per_connection_open"].as_f64();
    let bytes = open.unwrap_or_else(|| panic!("the server's memory is told: {report}"));
    assert!(bytes <= BYTES_PER_CONNECTION_MAX, "{bytes} bytes: {report}");
}

/// Opens this many connections, ends them, and returns the report.
fn load(url: &str, connections: u64) -> serde_json::Value {
    let ended = run(|command| {
        command.args(["load", "idle", url, "--json", "--for", "0", "-n", &connections.to_string()]);
    });
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!(report["connections"], connections, "{report}");
    report
}
