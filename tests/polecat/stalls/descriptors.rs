//! The case that the system has no descriptors left: PROTOCOL.md, "13.3 Limits".

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use crate::support::socket::message;
use crate::support::{Home, Http, Process, Socket, http, skip, wait_until};

fn is_turned_away(http: &mut Http) -> bool {
    http.send_what_is_taken(http::request("GET", "/api/health", &[], None));
    let response = http.response();
    if response.status == 200 {
        return false;
    }
    assert_eq!((response.status, response.json()), (503, json!({"detail": "too many connections"})));
    assert_eq!((response.header("retry-after"), response.header("connection")), (Some("5"), Some("close")));
    http.expect_end();
    true
}

fn wait_until_served(process: &Process) {
    wait_until("it recovers", || !is_turned_away(&mut Http::connect(process.addr())));
}

#[test]
fn a_low_limit_is_told_at_the_start_and_kept() {
    let home = Home::new();
    let process = Process::serve_after("ulimit -n 64", &home.database(), &[]);
    let mut served = Vec::new();
    let mut turned_away = 0;
    while turned_away < 50 {
        let mut http = Http::connect(process.addr());
        if is_turned_away(&mut http) {
            turned_away += 1;
        } else {
            assert_eq!(turned_away, 0, "who has a place keeps it");
            served.push(http);
        }
        assert!(served.len() <= 64);
    }
    assert!(served.len() >= 16, "only {} connections of 64 descriptors", served.len());
    for http in &mut served {
        http.expect_open();
    }
    drop(served);
    wait_until_served(&process);
    process.signal(rustix::process::Signal::TERM);
    let said = process.wait().stderr;
    let room = "polecat: at most 32 connections; the system allows 64 descriptors";
    assert!(said.iter().any(|line| line == room), "it says what binds: {said:?}");
}

#[test]
fn what_binds_is_told_whatever_is_logged_and_what_would_raise_it() {
    let home = Home::new();
    let told = |before: &str, flags: &[&str]| {
        let flags = [&["--log-level", "off"], flags].concat();
        let process = Process::serve_after(before, &home.database(), &flags);
        process.signal(rustix::process::Signal::TERM);
        let said = process.wait().stderr;
        assert_eq!(said.len(), 2, "where it listens, and what binds: {said:?}");
        said[1].clone()
    };
    let cut = told("ulimit -n 64", &["--max-connections", "1000"]);
    for part in ["at most 32 connections", "1000 of --max-connections", "64 descriptors", "1032", "ulimit"] {
        assert!(cut.contains(part), "{part}: {cut}");
    }
    let room = told("ulimit -n 64", &["--max-connections", "20"]);
    assert_eq!(room, "polecat: at most 20 connections; the system allows 64 descriptors");
    let raised = told("ulimit -n 256 && ulimit -S -n 64", &[]);
    assert!(raised.ends_with("the system allows 256 descriptors"), "{raised}");
}

#[test]
fn a_soft_limit_is_raised_at_the_start() {
    let home = Home::new();
    let process = Process::serve_after("ulimit -S -n 64", &home.database(), &[]);
    if getrlimit(Resource::Nofile).maximum.is_some_and(|maximum| maximum < 300) {
        return skip("the hard limit of descriptors is too low");
    }
    let mut served = (0..200).map(|_| Http::connect(process.addr())).collect::<Vec<_>>();
    for http in &mut served {
        http.expect_open();
    }
    process.kill();
}

#[test]
#[cfg(target_os = "linux")]
fn without_descriptors_it_answers_and_does_not_spin() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--heartbeat-interval", "3600"]);
    let mut kept = Http::connect(process.addr());
    kept.expect_open();
    let mut subscriber = Socket::connect_v1(process.addr(), "/api/ws/room");
    subscriber.next_of_type("hello");
    subscriber.next_of_type("live");
    let Some(open) = process.open_files() else {
        return skip("this system does not say which files a process has open");
    };
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = |current: Option<u64>| {
        prlimit(Some(process.pid()), Resource::Nofile, Rlimit { current, maximum })
            .expect("a limit can be set");
    };
    // Room for a few more.
    limit(Some(open as u64 + 5));
    let mut served = Vec::new();
    loop {
        let mut http = Http::connect(process.addr());
        if is_turned_away(&mut http) {
            break;
        }
        served.push(http);
        assert!(served.len() < 50, "the limit does not bind");
    }
    // It pauses for 0.1 s after each.
    for _ in 0..10 {
        assert!(is_turned_away(&mut Http::connect(process.addr())));
    }
    // All others are served as usual.
    for number in 0..20 {
        let body = message("room", "a", &number.to_string());
        kept.post("/api/messages", &body).ok();
        assert_eq!(subscriber.next_data()["content"], number.to_string());
    }
    for http in &mut served {
        http.expect_open();
    }
    // Some connect. The server pauses after each, and does not check all the time whether there is room.
    let mut turns = || {
        let told = kept.get("/metrics");
        let turns = told.text().lines().find_map(|line| line.strip_prefix("polecat_turns_total "));
        turns.and_then(|turns| turns.parse::<u64>().ok()).expect("a counter")
    };
    let before = turns();
    let mut knocking = (0..5).map(|_| Http::connect(process.addr())).collect::<Vec<_>>();
    assert!(knocking.iter_mut().all(is_turned_away));
    let taken = turns() - before;
    assert!(taken < 1_000, "it spins: {taken} turns");

    limit(maximum);
    wait_until_served(&process);
    limit(Some(open as u64 + 5));
    served.clear();
    wait_until_served(&process);
    process.signal(rustix::process::Signal::TERM);
    let ended = process.wait();
    let is_counted = |line: &String| line.contains("limit descriptors reached: ");
    assert!(ended.stderr.iter().any(is_counted), "who was turned away is counted: {:?}", ended.stderr);
}
