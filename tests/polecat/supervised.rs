//! A process that another process starts, watches and replaces: docs/operating.md, "As a service", and
//! PROTOCOL.md, "11. WebSocket rules".

mod notices;
mod units;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::support::process::run;
use crate::support::socket::message;
use crate::support::{Home, Http, Process, RawSocket, get, post, raw, skip, wait_until};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// A server on `listener`, which would otherwise listen elsewhere.
fn serve_on(listener: &TcpListener, home: &Home, flags: &[&str]) -> Process {
    Process::serve_on(listener, None, |command| {
        command.args(["--listen", "127.0.0.1:0", "--db"]).arg(home.database()).args(flags);
    })
}

#[test]
fn all_sockets_that_are_handed_on_are_listened_on_and_no_other() {
    let home = Home::new();
    let ((first, first_addr), (second, second_addr)) = (listener(), listener());
    let process = Process::serve_on(&first, Some(&second), |command| {
        command.args(["--listen", "127.0.0.1:0", "--db"]).arg(home.database());
    });
    assert_eq!(process.addr(), first_addr);
    for addr in [first_addr, second_addr, first_addr] {
        assert_eq!(get(addr, "/api/health").ok(), json!({"status": "ok"}));
    }
    process.signal(Signal::TERM);
    let ended = process.wait();
    assert_eq!(ended.status.code(), Some(0));
    let places = format!("listening on http://{first_addr} and http://{second_addr} and storing");
    assert!(ended.stderr.iter().any(|line| line.contains(&places)), "{:?}", ended.stderr);
}

#[test]
fn who_connects_between_two_processes_is_served_by_the_next() {
    let home = Home::new();
    let (listener, addr) = listener();
    let process = serve_on(&listener, &home, &["--drain", "3600"]);
    let mut silent = RawSocket::connect(addr, "/api/ws");
    post(addr, "/api/messages", &message("room", "a", "before")).ok();
    process.signal(Signal::TERM);
    assert_eq!(silent.next_message().opcode, raw::CLOSE);
    // It runs until its last client answers or the time is over, and accepts nobody.
    let mut early = Http::connect(addr);
    early.send("GET /api/messages HTTP/1.1\r\nHost: a\r\n\r\n");
    silent.send_frame(true, raw::CLOSE, &1001_u16.to_be_bytes());
    assert_eq!(process.wait().status.code(), Some(0));
    let mut late =
        RawSocket::connect_and_send(addr, &raw::upgrade("/api/ws/room?last_event_id=message-00000"));
    let process = serve_on(&listener, &home, &[]);
    assert_eq!(early.response().ok()["messages"][0]["content"], "before");
    assert!(late.read_head().starts_with("HTTP/1.1 101 "));
    assert!(String::from_utf8_lossy(&late.next_message().payload).contains("before"));
    // A process that is killed leaves no gap either.
    process.kill();
    let mut early = Http::connect(addr);
    early.send("GET /api/health HTTP/1.1\r\nHost: a\r\n\r\n");
    let _process = serve_on(&listener, &home, &[]);
    assert_eq!(early.response().status, 200);
}

#[test]
fn what_cannot_be_listened_on_is_said() {
    let home = Home::new();
    let fails = |script: &str, complaint: &str| {
        let database = home.database();
        let ended = run(|command| {
            let binary = std::mem::replace(command, std::process::Command::new("sh"));
            let script = format!("{script}; export LISTEN_PID=$$; exec \"$0\" \"$@\"");
            command.args(["-c", &script]).arg(binary.get_program());
            command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(&database);
        });
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(ended.stderr.len(), 1, "{:?}", ended.stderr);
        assert!(ended.stderr[0].contains(complaint), "{:?}", ended.stderr);
        assert!(!database.exists(), "who is started in vain leaves no file behind");
    };
    fails("exec 3</dev/null; export LISTEN_FDS=1", "descriptor 3 of LISTEN_FDS");
    fails("export LISTEN_FDS=many", "LISTEN_FDS");
    fails("export NOTIFY_SOCKET=elsewhere", "NOTIFY_SOCKET");
    fails("export NOTIFY_SOCKET=/nowhere WATCHDOG_USEC=soon", "WATCHDOG_USEC");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let home = Home::new();
    let before = "exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=1";
    let process = Process::serve_after(before, &home.database(), &[]);
    assert_eq!(get(process.addr(), "/api/health").status, 200);
    process.kill();
}

#[test]
fn children_that_it_did_not_start_are_reaped() {
    if !Path::new("/proc/self/stat").exists() {
        skip("the system has no /proc to see processes in");
        return;
    }
    let home = Home::new();
    let folder = home.database().parent().expect("a folder").display().to_string();
    // The process that becomes the server has two children: one has ended already, one ends later.
    let before = format!("cd {folder}; mkfifo go; true & echo $! >pids; cat go & echo $! >>pids");
    let process = Process::serve_after(&before, &home.database(), &[]);
    let pids = std::fs::read_to_string(format!("{folder}/pids")).expect("two lines");
    let mut http = Http::connect(process.addr());
    let mut wait_for_the_end = |pid: &str| {
        wait_until(&format!("{pid} is waited for"), || {
            http.expect_open();
            !Path::new("/proc").join(pid).exists()
        });
    };
    let (first, second) = pids.trim_end().split_once('\n').expect("two lines");
    wait_for_the_end(first);
    std::fs::write(format!("{folder}/go"), "").expect("it is being read");
    wait_for_the_end(second);
    process.kill();
}

#[test]
fn a_hangup_changes_nothing() {
    let home = Home::new();
    let mut process = Process::serve(&home.database(), &[]);
    let mut open = Http::connect(process.addr());
    open.expect_open();
    for _ in 0..2 {
        process.signal(Signal::HUP);
        process.next_logged(" INFO  SIGHUP has no effect");
        open.expect_open();
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
}
