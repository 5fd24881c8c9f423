//! PROTOCOL.md, "3. The HTTP API", section 3.11.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::socket::message;
use crate::support::{Http, Server, Socket};

fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

#[test]
fn what_happened_is_counted() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let mut room = Socket::connect(server.addr(), "/api/ws/room");
    for number in 0..3 {
        http.post("/api/messages", &message("room", "a", &number.to_string())).ok();
    }
    assert_eq!(room.next_contents(3), ["0", "1", "2"]);
    room.send_json(&json!({"type": "ping"}));
    assert_eq!(room.next()["type"], "pong");
    let response = http.get("/metrics");
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let told = samples(response.text());
    for (name, value) in [
        ("polecat_connections{kind=\"channel\"}", 1.0),
        ("polecat_connections{kind=\"http\"}", 1.0),
        ("polecat_connections_accepted_total", 2.0),
        ("polecat_connections_closed_total{reason=\"client_close\"}", 0.0),
        ("polecat_upgrades_total", 1.0),
        ("polecat_messages_received_total", 1.0),
        ("polecat_records_committed_total", 3.0),
        ("polecat_deliveries_total", 3.0),
        ("polecat_delivery_writes_total", 3.0),
        ("polecat_newest_id{sequence=\"messages\"}", 3.0),
        ("polecat_commit_records_count", 3.0),
        ("polecat_commit_records_sum", 3.0),
        ("polecat_commit_duration_seconds_count", 3.0),
        ("polecat_checkpoint_duration_seconds_count", 0.0),
        ("polecat_wal_pending_bytes", 0.0),
        ("polecat_store_faults", 0.0),
        ("polecat_lagging_subscribers", 0.0),
        ("polecat_limit_hits_total{limit=\"connections\"}", 0.0),
        ("polecat_store_up", 1.0),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name}");
    }
    let version = format!("polecat_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(told.get(&version), Some(&1.0));
    for name in [
        "polecat_bytes_received_total",
        "polecat_bytes_sent_total",
        "polecat_turns_total",
        "polecat_wakeups_total",
    ] {
        assert!(told[name] > 3.0, "{name} is {}", told[name]);
    }
    expect_histograms(&told);
    room.close();
    let later = samples(http.get("/metrics").text());
    assert_eq!(later["polecat_connections_closed_total{reason=\"client_close\"}"], 1.0);
    // No counter falls.
    for (name, value) in told.iter().filter(|(name, _)| name.contains("_total")) {
        assert!(later[name] >= *value, "{name}");
    }
}

/// Each grows along its buckets, up to the count of all values.
fn expect_histograms(told: &BTreeMap<String, f64>) {
    for name in ["turn_duration_seconds", "loop_lag_seconds", "commit_duration_seconds", "commit_records"] {
        let start = format!("polecat_{name}_bucket{{le=\"");
        let bound = |sample: &str| {
            sample.trim_end_matches("\"}").replace("+Inf", "inf").parse::<f64>().expect("a bound")
        };
        let buckets =
            told.iter().filter_map(|(name, count)| Some((bound(name.strip_prefix(&start)?), *count)));
        let mut buckets = buckets.collect::<Vec<_>>();
        buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        assert!(buckets.len() > 10, "{name}: {buckets:?}");
        assert!(buckets.is_sorted_by(|left, right| left.1 <= right.1), "{name}: {buckets:?}");
        let count = told[&format!("polecat_{name}_count")];
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}");
        assert!(count > 0.0 && told[&format!("polecat_{name}_sum")] >= 0.0, "{name}");
    }
}

#[test]
fn a_server_without_a_store_has_no_commits_to_time() {
    let server = Server::start_with(|options| options.database = None);
    let text = Http::connect(server.addr()).get("/metrics").text().to_owned();
    assert!(!text.contains("polecat_commit") && text.contains("polecat_records_committed_total 0"), "{text}");
}
