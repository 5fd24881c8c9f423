//! The console's pages and the library: PROTOCOL.md, "12. HTTP rules", 12.10.

use crate::support::process::Process;
use crate::support::{Http, Server};

const LIBRARY: &str = include_str!("../../docs/polecat.js");

#[test]
fn pages_are_served_with_what_a_browser_needs_to_know() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/?whatever", "text/html; charset=utf-8"),
        ("/console/console.css", "text/css; charset=utf-8"),
        ("/console/main.js", "text/javascript; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
        ("/polecat.js", "text/javascript; charset=utf-8"),
    ] {
        let page = http.get(path);
        assert_eq!((page.status, page.header("content-type")), (200, Some(media_type)), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-cache"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = page.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{path}: {policy}");
        let head = http.request("HEAD", path, &[], None);
        assert_eq!(head.header("content-length"), page.header("content-length"), "{path}");
        assert_eq!(head.header("etag"), page.header("etag"), "{path}");
    }
    assert_eq!(http.get("/polecat.js").text(), LIBRARY);
    for other in ["/console", "/console/", "/console/none.js", "/console/../polecat.js", "/docs/polecat.js"] {
        assert_eq!(http.get(other).status, 404, "{other}");
    }
}

#[test]
fn a_page_that_has_not_changed_is_not_sent_again() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    let page = http.get("/");
    let etag = page.header("etag").expect("an ETag").to_owned();
    let other = http.get("/polecat.js").header("etag").expect("an ETag").to_owned();
    assert_ne!(etag, other);
    for known in [etag.clone(), format!("W/{etag}"), format!("{other}, {etag}"), "*".to_owned()] {
        for method in ["GET", "HEAD"] {
            let answer = http.request(method, "/", &[("If-None-Match", &known)], None);
            assert_eq!((answer.status, answer.header("etag")), (304, Some(etag.as_str())), "{known}");
            assert_eq!((answer.header("content-length"), answer.text()), (None, ""), "{known}");
        }
    }
    for stale in [other.as_str(), "\"0\"", ""] {
        assert_eq!(http.request("GET", "/", &[("If-None-Match", stale)], None).status, 200, "{stale}");
    }
    http.expect_open();
}

#[test]
fn nothing_can_be_done_with_a_page_but_to_get_it() {
    let server = Server::start();
    let mut http = Http::connect(server.addr());
    for method in ["POST", "PUT", "DELETE"] {
        let answer = http.request(method, "/", &[], Some("{}"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let origin = ("Origin", "http://polecat.test");
    let preflight = [origin, ("Access-Control-Request-Method", "GET")];
    let answer = http.request("OPTIONS", "/polecat.js", &preflight, None);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin.1)));
    // A page elsewhere on this machine may import it.
    let answer = http.request("GET", "/polecat.js", &[origin], None);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin.1)));
}

#[test]
fn the_console_can_be_left_out() {
    let start = |flags: &[&str], variable: &str| {
        Process::start(|command| {
            command.args(["serve", "--listen", "127.0.0.1:0", "--db", "off"]).args(flags);
            command.env("POLECAT_NO_CONSOLE", variable);
        })
    };
    let (flag, variable) = (start(&["--no-console"], ""), start(&[], "1"));
    let neither = start(&[], "0");
    for (process, status) in [(flag, 404), (variable, 404), (neither, 200)] {
        let mut http = Http::connect(process.addr());
        for path in ["/", "/console/main.js"] {
            assert_eq!(http.get(path).status, status, "{path}");
        }
        let options = http.request("OPTIONS", "/", &[], None);
        let allowed = if status == 404 { "OPTIONS" } else { "GET, HEAD, OPTIONS" };
        assert_eq!((options.status, options.header("allow")), (200, Some(allowed)));
        assert_eq!(http.request("POST", "/", &[], Some("")).status, if status == 404 { 404 } else { 405 });
        http.get("/api/health").ok();
        // A browser requests this for any page.
        assert_eq!(http.get("/favicon.ico").status, 200);
        assert_eq!(http.get("/polecat.js").text(), LIBRARY);
    }
}
