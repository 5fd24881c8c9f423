//! Errors of `accept` that no test can cause in another way: strace makes the system call fail (PROTOCOL
//! 13.1).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::process::Process;
use crate::{PATIENCE, tool};

/// A server for which every second call of `accept` fails, beginning with the first (PROTOCOL 13.1).
fn serve(error: &str, database: &Path) -> Process {
    let inject = format!("inject=accept4:error={error}:when=1+2");
    // The tracer is not the parent, so that the process is the server itself.
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=accept4", "-e", &inject];
    Process::serve_by(&strace, "127.0.0.1:0", database, &[])
}

fn metrics(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).expect("the kernel accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: polecat.test\r\nConnection: close\r\n\r\n").ok();
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("an answer");
    response
}

fn value(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("the metric").parse().expect("a number")
}

#[test]
fn a_connection_that_is_lost_before_it_is_accepted_costs_nobody_else_anything() {
    if !tool::are_there(&[Path::new("strace")]) {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let database = home.path().join("polecat.db");
    for error in ["ENETDOWN", "EPROTO", "EHOSTUNREACH", "EPERM", "ECONNABORTED"] {
        let server = serve(error, &database);
        for count in 1..=3 {
            let answer = metrics(server.addr());
            assert!(answer.starts_with("HTTP/1.1 200 "), "{error}: {answer}");
            assert!(value(&answer, "polecat_connections_lost_total") >= count, "{error}: {answer}");
            assert_eq!(value(&answer, "polecat_limit_hits_total{limit=\"descriptors\"}"), 0, "{error}");
        }
        server.kill();
    }
    // A connection that waits is refused if the system lacks the resources.
    let server = serve("EMFILE", &database);
    let answer = metrics(server.addr());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too many connections"), "{answer}");
    server.kill();
}

/// PROTOCOL 2.7: a power cut must not take a name that clients have.
#[test]
fn the_name_of_a_term_is_on_the_disk_before_anyone_can_be_told() {
    if !tool::are_there(&[Path::new("strace")]) {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let database = home.path().join("polecat.db");
    Process::serve(&database, &[]).kill();
    let strace = ["strace", "-D", "-f", "-y", "-qq", "-e", "trace=pwrite64,fsync,fdatasync,accept4"];
    let mut server = Process::serve_by(&strace, "127.0.0.1:0", &database, &[]);
    assert!(metrics(server.addr()).starts_with("HTTP/1.1 200 "));
    server.next_logged("accept4(");
    server.signal(Signal::TERM);
    let calls = server.wait().stderr;
    let accepted = calls.iter().position(|line| line.contains("accept4(")).expect("it is traced");
    let before = &calls[..accepted];
    let last =
        |call: &str| before.iter().rposition(|line| line.contains(call) && line.contains("polecat.db-wal>"));
    assert!(last("pwrite64(").is_some() && last("sync(") > last("pwrite64("), "{before:#?}");
}

/// PROTOCOL 15.6: on a slow disk each record that is checked takes milliseconds, and nobody waits for many of them.
#[test]
fn a_large_database_on_a_slow_disk_is_checked_few_records_at_a_time() {
    if !tool::are_there(&[Path::new("strace")]) {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let database = home.path().join("polecat.db");
    Process::serve(&database, &[]).kill();
    let large = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 500)
        INSERT INTO messages (channel_id, author, content, timestamp) SELECT 'room', 'a', zeroblob(140000), '' FROM number";
    Connection::open(&database).expect("a database").execute_batch(large).expect("it is stored");
    let strace = ["strace", "-D", "-f", "-y", "-qq", "-e", "trace=pread64,epoll_wait"];
    let slow = ["-e", "inject=pread64:delay_exit=5000"];
    let mut server = Process::serve_by(&[&strace[..], &slow].concat(), "127.0.0.1:0", &database, &[]);
    server.next_logged("the database was checked: every record can be found");
    server.signal(Signal::TERM);
    let calls = server.wait().stderr;
    let is_poll = |line: &String| line.contains("epoll_wait(");
    let turns = calls.split(is_poll).skip(1);
    let most = turns.map(|calls| calls.iter().filter(|line| line.contains("pread64(")).count()).max();
    let most = most.expect("there are turns");
    assert!(most < 32, "it reads {most} times in a turn");
}
