//! PROTOCOL.md, "3. The HTTP API", section 3.9.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::socket::message;
use crate::support::{Http, RawSocket, Server, Socket, get, wait_until};

fn connections(addr: SocketAddr) -> Vec<Value> {
    get(addr, "/api/connections").ok()["connections"].as_array().expect("a list").clone()
}

#[test]
fn each_is_listed_with_what_it_is() {
    let server = Server::start();
    let addr = server.addr();
    let mut http = Http::connect(addr);
    let _base = Socket::connect(addr, "/ws");
    let _v1 = Socket::connect_v1(addr, "/api/ws/a%20b");
    let _echo = Socket::connect(addr, "/api/ws");
    let page = http.get("/api/connections").ok();
    let mut kinds = BTreeMap::new();
    for one in page["connections"].as_array().expect("a list") {
        let address = one["address"].as_str().expect("an address").parse::<SocketAddr>().expect("an address");
        assert!(address.ip().is_loopback() && address.port() > 0, "{one}");
        assert_eq!((&one["lag"], &one["outbox_bytes"]), (&json!(0), &json!(0)), "{one}");
        kinds.insert(one["kind"].as_str().expect("a kind").to_owned(), one.clone());
    }
    let told = |kind: &str| (kinds[kind]["channel"].clone(), kinds[kind]["protocol"].clone());
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    assert_eq!(told("http"), (json!(null), json!(null)));
    assert_eq!(told("events"), (json!(null), json!("base")));
    assert_eq!(told("channel"), (json!("a b"), json!("polecat.v1")));
    assert_eq!(told("echo"), (json!(null), json!(null)));
    assert_eq!(page["next"], json!(null));
    // Its age grows, and `heard_ms` is small again once it has sent something.
    wait_until("a connection gets older", || {
        let now = http.get("/api/connections").ok();
        let one = now["connections"].as_array().expect("a list").iter().find(|one| one["kind"] == "echo");
        let (age, heard) =
            one.map(|one| (one["age_ms"].as_u64(), one["heard_ms"].as_u64())).expect("an echo");
        age >= Some(48) && heard >= Some(40)
    });
    // The connection of this request was heard after the others, however much time has passed.
    let now = http.get("/api/connections").ok();
    let heard = |kind: &str| {
        let one = now["connections"].as_array().expect("a list").iter().find(|one| one["kind"] == kind);
        one.and_then(|one| one["heard_ms"].as_u64()).expect("a time")
    };
    assert!(heard("http") < heard("echo"), "{now}");
}

#[test]
fn pages_follow_one_another_by_the_id() {
    let server = Server::start();
    let sockets = (0..9).map(|_| Socket::connect(server.addr(), "/api/ws")).collect::<Vec<_>>();
    let mut http = Http::connect(server.addr());
    for limit in [1, 2, 3, 10, 11] {
        let (mut ids, mut query) = (Vec::new(), String::new());
        loop {
            let page = http.get(&format!("/api/connections?limit={limit}{query}")).ok();
            let listed = page["connections"].as_array().expect("a list");
            assert!(listed.len() <= limit, "{page}");
            ids.extend(listed.iter().map(|one| one["id"].as_u64().expect("an id")));
            if page["next"].is_null() {
                break;
            }
            query = format!("&after={}", page["next"]);
        }
        assert!(ids.len() == sockets.len() + 1 && ids.is_sorted_by(|left, right| left < right), "{ids:?}");
    }
    for after in [u64::MAX, 1 << 32, 10_000] {
        let page = http.get(&format!("/api/connections?after={after}")).ok();
        assert_eq!((&page["connections"], &page["next"]), (&json!([]), &json!(null)), "{after}");
    }
    for (query, kind) in
        [("limit=0", "greater_than_equal"), ("limit=1001", "less_than_equal"), ("after=-1", "int_parsing")]
    {
        let wrong = http.get(&format!("/api/connections?{query}"));
        assert_eq!((wrong.status, &wrong.json()["detail"][0]["type"]), (422, &json!(kind)), "{query}");
    }
}

#[test]
fn the_last_that_were_ended_are_listed_with_the_reason() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    Socket::connect(server.addr(), "/api/ws/room").close();
    let closed = http.get("/api/connections").ok()["closed"].clone();
    let one = &closed[0];
    assert_eq!(
        (&one["kind"], &one["channel"], &one["reason"]),
        (&json!("channel"), &json!("room"), &json!("client_close"))
    );
    assert!(one["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{one}");
    assert_eq!(closed.as_array().map(Vec::len), Some(1), "{closed}");
    RawSocket::connect(server.addr(), "/ws").send(b"\x00\x00");
    for _ in 0..60 {
        Socket::connect(server.addr(), "/api/ws").close();
    }
    let closed = http.get("/api/connections").ok()["closed"].clone();
    let closed = closed.as_array().expect("a list");
    // Newest first, and no more than fifty.
    assert_eq!(closed.len(), 50);
    assert!(closed.iter().all(|one| one["kind"] == "echo"), "{closed:?}");
    assert!(closed.is_sorted_by_key(|one| one["ago_ms"].as_u64()), "{closed:?}");
}

#[test]
fn who_does_not_read_lags() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let mut slow = RawSocket::connect(server.addr(), "/api/ws/room");
    let _quiet = Socket::connect(server.addr(), "/api/ws/quiet");
    let lagging = |http: &mut Http| http.get("/api/health?verbose=1").ok()["connections"]["lagging"].as_u64();
    let content = "x".repeat(500_000);
    let mut published = 0;
    wait_until("the socket is full", || {
        published += 1;
        http.post("/api/messages", &message("room", "a", &content)).ok();
        lagging(&mut http) == Some(1)
    });
    http.post("/api/messages", &message("room", "a", &content)).ok();
    let of = |kind: &str| {
        connections(server.addr()).into_iter().find(|one| one["channel"] == kind).expect("it is there")
    };
    let room = of("room");
    assert!(room["lag"].as_u64() >= Some(1) && room["lag"].as_u64() <= Some(published + 1), "{room}");
    assert!(room["outbox_bytes"].as_u64() > Some(0), "{room}");
    // Others have nothing to wait for, whatever is published elsewhere.
    assert_eq!(of("quiet")["lag"], 0);
    let text = http.get("/metrics").text().to_owned();
    assert!(text.contains("\npolecat_lagging_subscribers 1\n"), "{text}");
    for _ in 0..=published {
        slow.next_message();
    }
    wait_until("it has caught up", || lagging(&mut http) == Some(0) && of("room")["lag"] == 0);
}
