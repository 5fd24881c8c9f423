//! Which pages may connect: PROTOCOL.md, "12. HTTP rules".

use crate::support::process::run;
use crate::support::{Home, Http, Process, RawSocket, Response, Server, raw};

/// The status of an upgrade that a page of `origin` requests.
fn upgrade(addr: std::net::SocketAddr, target: &str, host: &str, origin: Option<&str>) -> u16 {
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    let bytes = raw::upgrade_with(target, &format!("Host: {host}\r\n{origin}"));
    let head = RawSocket::connect_and_send(addr, &bytes).read_head();
    head[9..12].parse().expect("a status")
}

fn ask(addr: std::net::SocketAddr, method: &str, host: &str, origin: &str, more: &str) -> Response {
    let mut http = Http::connect(addr);
    http.send(format!("{method} /api/messages HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{more}\r\n"));
    http.response()
}

/// Checks that a page of `origin` may do everything, or nothing.
fn check(addr: std::net::SocketAddr, host: &str, origin: &str, is_allowed: bool) {
    for target in ["/ws", "/api/ws/room", "/api/ws"] {
        let expected = if is_allowed { 101 } else { 403 };
        assert_eq!(upgrade(addr, target, host, Some(origin)), expected, "{origin} at {host}{target}");
    }
    let got = ask(addr, "GET", host, origin, "");
    assert_eq!(got.status, 200, "{origin}: a page that may not read is kept from it by its browser");
    let allowed = |response: &Response| response.header("access-control-allow-origin").map(str::to_owned);
    assert_eq!(allowed(&got), is_allowed.then(|| origin.to_owned()), "{origin} at {host}");
    assert_eq!(got.header("access-control-allow-credentials"), is_allowed.then_some("true"));
    let preflight = ask(addr, "OPTIONS", host, origin, "Access-Control-Request-Method: POST\r\n");
    assert_eq!(preflight.status, if is_allowed { 200 } else { 403 }, "{origin} at {host}");
    assert_eq!(allowed(&preflight), is_allowed.then(|| origin.to_owned()), "{origin} at {host}");
}

#[test]
fn pages_of_the_same_host_and_port_may_connect() {
    let server = Server::start();
    for (host, origin, is_allowed) in [
        ("polecat.test:8010", "http://polecat.test:8010", true),
        ("polecat.test:8010", "https://polecat.test:8010", true),
        ("polecat.test:8010", "http://POLECAT.test:8010", true),
        ("polecat.test", "http://polecat.test", true),
        ("polecat.test", "https://polecat.test", true),
        ("polecat.test:80", "http://polecat.test", true),
        ("[2001:db8::1]:8010", "http://[2001:db8::1]:8010", true),
        ("polecat.test:8010", "http://polecat.test", false),
        ("polecat.test:8010", "http://polecat.test:8011", false),
        ("polecat.test", "http://polecat.test:8010", false),
        ("polecat.test", "http://www.polecat.test", false),
        ("polecat.test", "http://polecat.test.evil.example", false),
        ("polecat.test", "http://evilpolecat.test", false),
        ("polecat.test", "http://evil.example", false),
        ("polecat.test", "http://polecat.test@evil.example", false),
        ("polecat.test", "null", false),
        ("polecat.test", "polecat.test", false),
        ("polecat.test", "*", false),
    ] {
        check(server.addr(), host, origin, is_allowed);
    }
}

#[test]
fn pages_of_loopback_may_connect_to_loopback() {
    let server = Server::start();
    let port = server.addr().port();
    for (host, origin, is_allowed) in [
        (format!("127.0.0.1:{port}"), "http://localhost:PAGE", true),
        (format!("127.0.0.1:{port}"), "http://127.0.0.1", true),
        (format!("127.0.0.1:{port}"), "http://127.1.2.3:PAGE", true),
        (format!("localhost:{port}"), "http://[::1]:PAGE", true),
        (format!("localhost:{port}"), "https://app.localhost", true),
        (format!("[::1]:{port}"), "http://LOCALHOST:PAGE", true),
        (format!("127.0.0.1:{port}"), "http://evil.example", false),
        (format!("127.0.0.1:{port}"), "http://localhost.evil.example", false),
        (format!("127.0.0.1:{port}"), "http://127.0.0.1.evil.example", false),
        (format!("127.0.0.1:{port}"), "http://192.168.0.1", false),
        (format!("127.0.0.1:{port}"), "null", false),
        // A name that only resolves to loopback is not a loopback name.
        ("rebound.evil.example".to_owned(), "http://localhost:PAGE", false),
        ("192.168.0.1:8010".to_owned(), "http://localhost:PAGE", false),
    ] {
        // A page of another server, on any port.
        check(server.addr(), &host, &origin.replace("PAGE", "3000"), is_allowed);
    }
}

#[test]
fn who_names_no_page_may_connect() {
    let server = Server::start();
    for target in ["/ws", "/api/ws/room", "/api/ws"] {
        assert_eq!(upgrade(server.addr(), target, "anything.example", None), 101);
    }
}

#[test]
fn a_refusal_says_why_and_the_connection_goes_on() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    http.send(raw::upgrade_with("/ws", "Host: polecat.test\r\nOrigin: http://evil.example\r\n"));
    let refused = http.response();
    assert_eq!(refused.status, 403);
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("--allow-origin")));
    http.expect_open();
    // A page may not hide behind a second origin.
    let two = "Host: polecat.test\r\nOrigin: http://polecat.test\r\nOrigin: http://evil.example\r\n";
    let mut http = Http::connect(server.addr());
    http.send(raw::upgrade_with("/ws", two));
    let status = http.response().status;
    assert!(matches!(status, 400 | 403), "two origins: {status}");
}

#[test]
fn the_list_adds_pages() {
    let home = Home::new();
    let flags = ["--allow-origin", "https://app.example", "--allow-origin", "http://dev.example:3000"];
    let process = Process::serve(&home.database(), &flags);
    for (origin, is_allowed) in [
        ("https://app.example", true),
        ("https://APP.example", true),
        ("http://dev.example:3000", true),
        ("http://polecat.test", true),
        ("http://app.example", false),
        ("https://app.example:444", false),
        ("https://app.example.evil", false),
        ("http://dev.example", false),
        ("null", false),
    ] {
        check(process.addr(), "polecat.test", origin, is_allowed);
    }
    process.kill();
    let process = Process::start(|command| {
        command.args(["--listen", "127.0.0.1:0", "--db"]).arg(home.database());
        command.env("POLECAT_ALLOW_ORIGIN", "https://one.example,https://two.example,null");
    });
    for origin in ["https://one.example", "https://two.example", "null"] {
        check(process.addr(), "polecat.test", origin, true);
    }
    check(process.addr(), "polecat.test", "https://three.example", false);
}

#[test]
fn caches_are_told_that_the_origin_matters_whoever_asks() {
    // The same if all are allowed: each gets its own origin.
    for is_open in [false, true] {
        let server = Server::start_with(|options| {
            if is_open {
                options.config.origins.add("*").expect("all");
            }
        });
        let mut http = Http::connect(server.addr());
        let vary = |response: &Response| response.header("vary").map(str::to_owned);
        for origin in [&[][..], &[("Origin", "http://polecat.test")], &[("Origin", "http://other.test")]] {
            for (method, target, body) in [
                ("GET", "/api/health", None),
                ("HEAD", "/api/channels", None),
                ("GET", "/api/messages", None),
                ("GET", "/nothing", None),
                ("GET", "/ws", None),
                ("DELETE", "/api/summary", None),
                ("OPTIONS", "/api/messages", None),
                ("POST", "/api/events", Some("{}")),
            ] {
                let response = http.request(method, target, origin, body);
                let is_list = (method, target) == ("GET", "/api/messages");
                let expected = if is_list { "Origin, Accept-Encoding" } else { "Origin" };
                assert_eq!(vary(&response).as_deref(), Some(expected), "{method} {target} {origin:?}");
            }
        }
        http.send("nonsense\r\n\r\n");
        assert_eq!(vary(&http.response()).as_deref(), Some("Origin"));
        let mut page = RawSocket::connect_and_send(server.addr(), &raw::upgrade("/ws"));
        assert!(!page.read_head().to_ascii_lowercase().contains("\r\nvary:"), "a 101 is not kept");
    }
}

#[test]
fn a_star_lets_all_in_and_nonsense_is_refused_at_the_start() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--allow-origin", "*"]);
    for origin in ["https://any.example", "null", "http://127.0.0.1", "chrome-extension://abc"] {
        check(process.addr(), "polecat.test", origin, true);
    }
    process.kill();
    for wrong in [
        "app.example",
        "https://",
        "https://*.example",
        "https://app.example/path",
        "https://app.example?x",
        "https://app.example#",
        "https://caf\u{e9}.example",
        "http://[::1",
        "wss://app.example",
        "",
    ] {
        let ended = run(|command| {
            command.args(["--listen", "127.0.0.1:0", "--allow-origin", wrong, "--db"]).arg(home.database());
        });
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(2), 1), "{wrong:?}: {:?}", ended.stderr);
    }
}

#[test]
fn a_variable_may_have_white_space_around_its_origins_and_files_can_be_listed() {
    let home = Home::new();
    let start = |origins: &str| {
        Process::start(|command| {
            command.args(["--listen", "127.0.0.1:0", "--db"]).arg(home.database());
            command.env("POLECAT_ALLOW_ORIGIN", origins);
        })
    };
    let process = start("https://one.example, https://two.example\t,\nnull\n");
    for origin in ["https://one.example", "https://two.example", "null", "file://"] {
        check(process.addr(), "polecat.test", origin, true);
    }
    process.kill();
    let process = start("file://");
    check(process.addr(), "polecat.test", "file://", true);
    check(process.addr(), "polecat.test", "null", false);
}

#[test]
fn who_listens_beyond_loopback_is_warned() {
    let home = Home::new();
    let process = Process::start(|command| {
        command.args(["--listen", "0.0.0.0:0", "--db"]).arg(home.database());
    });
    process.signal(rustix::process::Signal::TERM);
    let said = process.wait().stderr.join("\n");
    assert!(said.contains("publish"), "{said}");
    let process = Process::serve(&home.database(), &[]);
    process.signal(rustix::process::Signal::TERM);
    let said = process.wait().stderr.join("\n");
    assert!(!said.contains("publish"), "{said}");
}
