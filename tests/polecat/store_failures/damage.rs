//! Files that are damaged: PROTOCOL.md, "15. When the store fails" (15.6).

use rusqlite::Connection;

use super::files::{expect_refused, filled};
use crate::support::{Home, Http, Process, get, old_database};

#[test]
fn a_database_that_is_damaged() {
    let home = Home::new();
    let good = filled(&home);
    let mut schema = good.clone();
    schema[100..400].fill(0x55);
    let mut header = good.clone();
    header[16..24].fill(0xff);
    let mut middle = good.clone();
    middle[good.len() / 2..][..1024].fill(0xa5);
    let (damaged, none) = ("; restore a copy of it", "; name another file with --db");
    let cut = good[..5000].to_vec();
    for (bytes, remedy) in [(schema, damaged), (header, none), (middle, damaged), (cut, damaged)] {
        std::fs::write(home.database(), &bytes).expect("a file");
        expect_refused(&home.database(), remedy);
    }
    std::fs::write(home.database(), &good).expect("a file");
    let server = home.serve();
    assert_eq!(get(server.addr(), "/api/messages?limit=1").ok()["messages"][0]["id"], 200);
}

#[test]
fn a_large_database_is_looked_through_while_it_is_served() {
    const PAGE_BYTES: usize = 4096;
    const INNER_OF_INDEX: u8 = 2;
    let home = Home::new();
    let mut connection = old_database::create(&home.database(), old_database::SCHEMA);
    old_database::fill(&mut connection, "room", 5_000);
    // Above the size up to which everything is checked before the server serves.
    let large = "INSERT INTO messages (channel_id, author, content, timestamp) VALUES ('large', 'a', zeroblob(70000000), '')";
    connection.execute_batch(&format!("{large}; DROP INDEX idx_messages_time")).expect("it is stored");
    drop(connection);
    let mut bytes = std::fs::read(home.database()).expect("the file");
    let sound = Process::serve(&home.database(), &[]);
    assert_eq!(faults_after(sound, "the database was checked: every record can be found"), 0);

    let inner =
        bytes.chunks_exact_mut(PAGE_BYTES).find(|page| page[0] == INNER_OF_INDEX).expect("an inner page");
    let entry = inner.windows(4).rposition(|bytes| bytes == b"room").expect("an entry");
    inner[entry] ^= 1;
    std::fs::write(home.database(), &bytes).expect("the file");
    let damaged = Process::serve(&home.database(), &[]);
    assert!(faults_after(damaged, "records exist but cannot be found") > 100);
    // The advice works.
    Connection::open(home.database()).expect("a database").execute_batch("REINDEX").expect("an index");
    let sound = Process::serve(&home.database(), &[]);
    assert_eq!(faults_after(sound, "the database was checked: every record can be found"), 0);
}

/// How many records a server reports as not found, once it has logged `line`.
fn faults_after(mut process: Process, line: &str) -> u64 {
    process.next_logged(line);
    let metrics = Http::connect(process.addr()).get("/metrics").text().to_owned();
    let faults = metrics.lines().find_map(|line| line.strip_prefix("polecat_store_faults "));
    let faults = faults.expect("it is told").parse().expect("a number");
    process.kill();
    faults
}
