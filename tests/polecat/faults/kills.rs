//! SIGKILL at random moments: PROTOCOL.md, "8. Guarantees".

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

use crate::support::socket::message;
use crate::support::{Home, Process, get, post};

use super::publishers;
use super::site::{Origin, Sequence, Site};
use super::subscribers::{END, Listener, Run, origin_of};

const ROUNDS: usize = 20;
/// The most messages that clients get before a process is killed.
const SEEN_MAX: u64 = 6_000;

/// Another address of loopback: clients that connect elsewhere do not get its ports.
const LISTEN: &str = if cfg!(target_os = "linux") { "127.0.77.1:0" } else { "127.0.0.1:0" };

fn start(database: &Path, listen: &str, round: usize) -> Process {
    let durability = if round % 4 == 3 { "full" } else { "normal" };
    Process::start(|command| {
        command.args(["serve", "--listen", listen, "--durability", durability, "--db"]).arg(database);
    })
}

#[test]
fn whenever_it_is_killed_what_was_acknowledged_is_stored_once_and_everyone_resumes() {
    let seed = std::env::var("POLECAT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    // Not with `eprintln`, which is shown only for failures: this process may be killed too.
    writeln!(io::stderr(), "SEED={seed}: run it again with POLECAT_SEED={seed}").expect("stderr");
    let mut random = fastrand::Rng::with_seed(seed);
    let (home, site) = (Home::new(), Site::default());
    let (site, mut published, mut runs) = (&site, BTreeMap::new(), Vec::new());
    let process = start(&home.database(), LISTEN, 0);
    let addr = process.addr();
    let process = std::thread::scope(|scope| {
        use Sequence::{Events, Messages};
        let publishers = [
            ("posts", scope.spawn(|| publishers::post(site, "posts", Messages, false))),
            ("posts with keys", scope.spawn(|| publishers::post(site, "posts with keys", Messages, true))),
            ("events", scope.spawn(|| publishers::post(site, "events", Events, false))),
            ("events with keys", scope.spawn(|| publishers::post(site, "events with keys", Events, true))),
            ("v1 with keys", scope.spawn(|| publishers::publish_with_keys(site, "v1 with keys"))),
            ("base", scope.spawn(|| publishers::publish(site, "base"))),
        ];
        let listen = |is_late: bool| {
            let all = [(Messages, false), (Messages, true), (Events, false), (Events, true)];
            // A late base client is not told where it begins.
            all.into_iter().filter(move |(_, is_v1)| *is_v1 || !is_late).map(move |(sequence, is_v1)| {
                let listener = Listener { sequence, is_v1, is_late };
                (listener, scope.spawn(move || listener.listen(site)))
            })
        };
        let mut listeners = listen(false).collect::<Vec<_>>();
        let mut process = process;
        for round in 1..=ROUNDS {
            site.open(process.addr());
            if round == ROUNDS / 2 {
                listeners.extend(listen(true));
            }
            // In every second round all clients are connected before the kill, and in the others those that
            // are fast enough.
            if round % 2 == 0 {
                site.wait_for_each(publishers.len() + listeners.len(), 1);
            }
            site.wait_for(random.u64(1..=SEEN_MAX));
            site.close();
            process.kill();
            process = start(&home.database(), &addr.to_string(), round);
        }
        site.open(addr);
        site.wait_for_each(publishers.len() + listeners.len(), ROUNDS as u64 + 1);
        site.wind_up();
        for (name, publisher) in publishers {
            published.insert(name, publisher.join().expect("a publisher comes to its end"));
        }
        post(addr, "/api/messages", &message("room", END, "0")).ok();
        post(addr, "/api/events", &json!({"type": END, "payload": {"number": 0}})).ok();
        for (listener, thread) in listeners {
            runs.push((listener, thread.join().expect("a subscriber comes to its end")));
        }
        process
    });
    let listed = listed(addr);
    process.signal(Signal::TERM);
    assert_eq!(process.wait().status.code(), Some(0));
    let messages =
        "SELECT id, author, CAST(content AS INTEGER) FROM messages WHERE channel_id = 'room' ORDER BY id";
    let events = "SELECT id, type, payload ->> 'number' FROM events ORDER BY id";
    let connection = Connection::open(home.database()).expect("the file opens");
    let messages = stored(&connection, messages);
    assert_eq!(listed, messages, "what is listed, page by page, and what is in the file");
    let stored = [(Sequence::Messages, messages), (Sequence::Events, stored(&connection, events))];
    for (sequence, stored) in &stored {
        check_stored(stored, &site.acknowledged(*sequence), &published);
    }
    for (listener, run) in &runs {
        let stored = &stored[usize::from(listener.sequence == Sequence::Events)].1;
        check_run(*listener, run, stored);
    }
}

/// All messages, page by page.
fn listed(addr: SocketAddr) -> Vec<(u64, Origin)> {
    let mut listed = Vec::<(u64, Origin)>::new();
    loop {
        let after = listed.last().map_or(0, |(id, _)| *id);
        let page = get(addr, &format!("/api/messages?limit=1000&after={after}")).ok();
        let page = page["messages"].as_array().expect("a list");
        if page.is_empty() {
            return listed;
        }
        listed
            .extend(page.iter().map(|message| (message["id"].as_u64().expect("an id"), origin_of(message))));
    }
}

fn stored(connection: &Connection, query: &str) -> Vec<(u64, Origin)> {
    let mut statement = connection.prepare(query).expect("the query is valid");
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), (row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs())))
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("what was published")
}

/// Checks that everything that was acknowledged is stored, with its id, and nothing twice.
fn check_stored(
    stored: &[(u64, Origin)],
    acknowledged: &BTreeMap<u64, Origin>,
    published: &BTreeMap<&str, u64>,
) {
    let by_id = stored.iter().cloned().collect::<BTreeMap<_, _>>();
    for (id, origin) in acknowledged {
        assert_eq!(by_id.get(id), Some(origin), "the id {id} was given to {origin:?}");
    }
    let mut of_publisher = BTreeMap::<&str, Vec<u64>>::new();
    for (_, (name, number)) in stored {
        of_publisher.entry(name).or_default().push(*number);
    }
    for (name, numbers) in of_publisher {
        assert!(numbers.is_sorted_by(|left, right| left < right), "{name}: each once, and in its order");
        let known = acknowledged.values().filter(|(of, _)| of == name).map(|(_, number)| *number);
        let known = known.collect::<BTreeSet<_>>();
        if let Some(published) = published.get(name) {
            assert!(known.len() > ROUNDS, "{name} got only {} answers", known.len());
            if name.ends_with("with keys") {
                assert!(
                    numbers.into_iter().eq(0..*published),
                    "{name}: all {published}, since it sent them again"
                );
                assert_eq!(known.len() as u64, *published, "{name}: all were acknowledged");
            }
        }
    }
}

/// Checks that a client that resumed got everything that was stored since it began, each once and in order.
fn check_run(listener: Listener, run: &Run, stored: &[(u64, Origin)]) {
    let expected = &stored[stored.partition_point(|(id, _)| *id <= run.start)..];
    assert!(run.connections >= ROUNDS / 4, "{listener:?} was on {} connections", run.connections);
    assert!(expected.len() > ROUNDS && listener.is_late == (run.start > 0));
    if let Some(place) = run.got.iter().zip(expected).position(|(got, expected)| got != expected) {
        panic!("{listener:?}: {:?} instead of {:?}", run.got[place], expected[place]);
    }
    assert_eq!(run.got.len(), expected.len(), "{listener:?}");
}
