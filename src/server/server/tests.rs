#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::Server;
use crate::base::config::Config;
use crate::base::limit::Limit;
use crate::base::time::Now;
use crate::server::connections::Source;
use crate::server::host::{Host, ProcessStats};
use crate::server::socket::{Line, Readiness};
use crate::store::memory::MemoryEngine;

use crate::server::http::{PAGE_BYTES_MAX, PLACES_MAX};

struct MockServer {
    server: Server<Line>,
    now_ms: u64,
}

impl MockServer {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Now { monotonic_ms: 0, unix_micros: 0 };
        Self { server: Server::new(config, Box::new(MemoryEngine::default()), 1, now), now_ms: 0 }
    }

    fn connect(&mut self) -> (Line, u32) {
        let line = Line::default();
        let index = self.server.accept(line.clone(), Source(0));
        (line, index)
    }

    fn send(&mut self, (line, index): &(Line, u32), text: &str) {
        line.input.borrow_mut().extend_from_slice(text.as_bytes());
        self.server.ready(*index, Readiness { readable: true, ..Readiness::default() });
    }

    /// One turn, a millisecond after the last; returns whether another is due at once.
    fn turn(&mut self) -> bool {
        self.server.turn();
        // It takes the square of as many as are marked.
        if self.server.connections() < 2_000 {
            self.server.check_invariants();
        }
        let is_due = self.server.poll_timeout_ms() == Some(0);
        self.now_ms += 1;
        self.server.wake(Now { monotonic_ms: self.now_ms, unix_micros: 0 });
        is_due
    }

    fn settle(&mut self) {
        while self.turn() {}
    }

    fn get(&mut self, client: &(Line, u32), target: &str) -> Value {
        self.send(client, &request(target));
        self.settle();
        body(client)
    }
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn body(client: &(Line, u32)) -> Value {
    let text = String::from_utf8(client.0.output.take()).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn a_page_of_a_slab_that_is_almost_empty_ends_after_so_many_places() {
    let mut mock = MockServer::new();
    let mut others = (0..2 * PLACES_MAX + 10).map(|_| mock.connect()).collect::<Vec<_>>();
    let asker = others.pop().unwrap();
    for (line, index) in &others {
        line.is_ended.set(true);
        let readiness = Readiness { readable: true, read_closed: true, writable: false };
        mock.server.ready(*index, readiness);
    }
    mock.settle();
    assert_eq!(mock.server.connections(), 1);
    let (mut target, mut pages, mut seen) = ("/api/connections".to_owned(), 0, Vec::new());
    loop {
        let page = mock.get(&asker, &target);
        pages += 1;
        seen.extend(page["connections"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()));
        let Some(next) = page["next"].as_u64() else { break };
        assert!(next < PLACES_MAX as u64 * pages, "{page}");
        target = format!("/api/connections?after={next}");
    }
    assert_eq!(seen, [u64::from(asker.1)]);
    assert!((3..=5).contains(&pages), "{pages}");
}

#[test]
fn a_page_ends_at_its_bytes() {
    let mut mock = MockServer::new();
    let clients = (0..900).map(|_| mock.connect()).collect::<Vec<_>>();
    let name = "%22".repeat(200);
    for client in &clients {
        mock.send(
            client,
            &format!(
                "GET /api/ws/{name} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
        );
    }
    mock.settle();
    let asker = mock.connect();
    let first = mock.get(&asker, "/api/connections?limit=1000");
    assert!(first.to_string().len() < PAGE_BYTES_MAX + (8 << 10));
    let next = first["next"].as_u64().unwrap();
    assert!((200..800).contains(&next), "{next}");
    let second = mock.get(&asker, &format!("/api/connections?limit=1000&after={next}"));
    let count = |page: &Value| page["connections"].as_array().unwrap().len();
    assert_eq!(count(&first) + count(&second), 901);
}

#[test]
fn one_is_answered_in_a_turn_with_what_its_host_tells() {
    struct Known;
    impl Host for Known {
        fn process_stats(&self, connections: usize) -> ProcessStats {
            assert_eq!(connections, 5);
            ProcessStats { resident_bytes: Some(4711), ..ProcessStats::default() }
        }
    }
    let mut mock = MockServer::new();
    mock.server = mock.server.with_host(Box::new(Known));
    let clients = (0..5).map(|_| mock.connect()).collect::<Vec<_>>();
    for client in &clients {
        mock.send(client, &request("/api/health?verbose=1"));
    }
    let answered = || clients.iter().filter(|(line, _)| !line.output.borrow().is_empty()).count();
    for number in 1..=5 {
        assert!(mock.turn(), "a turn is due for each, and one in which the last is read on");
        assert_eq!(answered(), number);
    }
    for client in &clients {
        let health = body(client);
        assert_eq!(
            (&health["memory"]["resident_bytes"], &health["descriptors"]),
            (&4711.into(), &Value::Null)
        );
    }
}

#[test]
fn who_has_gone_is_not_answered_and_holds_up_nobody() {
    let mut mock = MockServer::new();
    let clients = (0..3).map(|_| mock.connect()).collect::<Vec<_>>();
    for client in &clients {
        mock.send(client, &request("/api/connections"));
    }
    mock.turn();
    // They break, and a reset is seen before their turn comes.
    for (_, index) in &clients[..2] {
        mock.server.owners().abort(*index, crate::server::connections::CloseReason::SocketError);
    }
    mock.turn();
    let page = body(&clients[2]);
    assert_eq!(page["connections"].as_array().unwrap().len(), 1);
    let reasons = page["closed"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap());
    assert_eq!(reasons.collect::<Vec<_>>(), ["socket_error"; 2]);
}

#[test]
fn the_age_of_a_connection_is_of_its_own_place() {
    let mut mock = MockServer::new();
    let first = mock.connect();
    mock.settle();
    for _ in 0..100 {
        mock.turn();
    }
    let second = mock.connect();
    let page = mock.get(&second, "/api/connections");
    let ages = page["connections"].as_array().unwrap().iter().map(|one| one["age_ms"].as_u64().unwrap());
    let ages = ages.collect::<Vec<_>>();
    assert!(first.1 == 0 && (80..=130).contains(&ages[0]) && ages[1] < 32, "{ages:?}");
}

#[test]
fn a_store_that_is_behind_holds_up_publishers_and_nobody_else() {
    // It is always behind.
    let mut config = Config::default();
    config.limits.engine_backlog_bytes_max = 0;
    let mut mock = MockServer::with(config);
    let publisher = mock.connect();
    let post = "POST /api/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    mock.send(&publisher, post);
    let slow = mock.connect();
    mock.send(&slow, "PO");
    for _ in 0..10 {
        mock.turn();
    }
    assert!(publisher.0.output.borrow().is_empty() && slow.0.output.borrow().is_empty());
    let counted = mock.server.metrics().limits.of(Limit::EngineBacklogBytes);
    assert!(counted >= 2, "{counted}");
    for target in [
        "/api/health",
        "/api/health?verbose=1",
        "/api/connections",
        "/api/channels",
        "/api/messages",
        "/api/summary",
    ] {
        let client = mock.connect();
        // An empty line before a request is nobody's.
        for text in ["\r\n".to_owned(), request(target)] {
            mock.send(&client, &text);
            for _ in 0..10 {
                mock.turn();
            }
        }
        assert!(client.0.output.borrow().starts_with(b"HTTP/1.1 200"), "{target}");
    }
    let client = mock.connect();
    let upgrade = "GET /api/ws/room HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    mock.send(&client, upgrade);
    mock.turn();
    assert!(client.0.output.borrow().starts_with(b"HTTP/1.1 101"));
}
