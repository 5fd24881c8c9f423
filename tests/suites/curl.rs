//! curl: the HTTP API as a shell uses it (PROTOCOL 3, 12).

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::process::Process;
use crate::{PATIENCE, tool};

/// curl's output, including all heads.
#[derive(Debug)]
struct Answer {
    heads: String,
    body: String,
}

/// A server, and curl to ask it with.
struct Curl {
    process: Process,
}

#[test]
fn curl() {
    if !tool::are_there(&[Path::new("curl")]) {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let database = home.path().join("polecat.db");
    let curl = Curl { process: Process::serve(&database, &[]) };
    publishes_and_looks_up(&curl);
    is_told_what_is_wrong(&curl);
    asks_for_other_origins(&curl);
    sends_large_bodies(&curl, home.path());
    keeps_a_connection(&curl);
    insists_over_a_kill(curl, &database);
}

fn publishes_and_looks_up(curl: &Curl) {
    let hello = r#"{"channel_id":"a b","author":"ann","content":"hällo","token_count":2}"#;
    let first = curl.ask("/api/messages", &["--json", hello, "-H", "Idempotency-Key: k"]);
    first.expect("200 OK");
    assert_eq!(first.json()["message"]["content"], "hällo");
    let again = curl.ask("/api/messages", &["--json", hello, "-H", "Idempotency-Key: k"]);
    assert!(again.heads.contains("Idempotency-Replayed: true"), "{again:?}");
    assert_eq!(again.json(), first.json());
    let found = curl.ask("/api/messages", &["-G", "--data-urlencode", "channel_id=a b", "-d", "limit=1"]);
    assert_eq!(found.json(), json!({"messages": [first.json()["message"]]}));
    assert_eq!(curl.ask("/api/channels", &[]).json(), json!({"channels": ["a b"]}));
    assert_eq!(curl.ask("/api/health", &[]).json(), json!({"status": "ok"}));
    assert_eq!(curl.ask("/api/summary", &[]).json()["summary"]["total_tokens"], 2);
    let event = curl.ask("/api/events", &["--json", r#"{"type":"scan"}"#, "-H", "X-Correlation-ID: r-1"]);
    assert_eq!(event.json()["event"]["correlation_id"], "r-1");
    let head = curl.ask("/api/health", &["--head"]);
    head.expect("200 OK");
    assert!(head.heads.contains("Content-Length: 15") && head.body.is_empty(), "{head:?}");
    // Each of the twenty at once, over connections of its own.
    let twenty = curl.ask("/api/messages?n=[1-20]", &["--parallel", "--json", hello]);
    assert_eq!(twenty.heads.matches("HTTP/1.1 200 OK").count(), 20, "{twenty:?}");
    curl.ask("/api/health", &["--http1.0"]).expect("200 OK");
}

fn is_told_what_is_wrong(curl: &Curl) {
    curl.ask("/api/nothing", &[]).expect("404 Not Found");
    let deleted = curl.ask("/api/channels", &["-X", "DELETE"]);
    deleted.expect("405 Method Not Allowed");
    assert!(deleted.heads.contains("Allow: GET, HEAD"), "{deleted:?}");
    curl.ask("/api/messages", &["-X", "POST"]).expect("411 Length Required");
    curl.ask("/api/messages", &["-d", "form=field"]).expect("415 Unsupported Media Type");
    curl.ask("/ws", &[]).expect("426 Upgrade Required");
    let wrong = curl.ask("/api/messages", &["--json", r#"{"channel_id":"c","author":5}"#]);
    wrong.expect("422 Unprocessable");
    let expected = json!({"detail": [
        {"type": "string_type", "loc": ["body", "author"], "msg": "Input should be a valid string"},
        {"type": "missing", "loc": ["body", "content"], "msg": "Field required"},
    ]});
    assert_eq!(wrong.json(), expected);
    let no_json = curl.ask("/api/messages", &["--json", "{"]);
    assert_eq!(no_json.json()["detail"][0]["type"], "json_invalid");
    assert_eq!(curl.ask("/api/messages?limit=0", &[]).json()["detail"][0]["type"], "greater_than_equal");
    curl.ask("/api/health", &["-H", "X: two\r\n lines"]).expect("400 Bad Request");
}

fn asks_for_other_origins(curl: &Curl) {
    let preflight = [
        "-X",
        "OPTIONS",
        "-H",
        "Access-Control-Request-Method: POST",
        "-H",
        "Access-Control-Request-Headers: x-y",
    ];
    let allowed =
        curl.ask("/api/messages", &[&preflight[..], &["-H", "Origin: http://localhost:3000"]].concat());
    allowed.expect("200 OK");
    for field in ["Access-Control-Allow-Origin: http://localhost:3000", "Access-Control-Allow-Headers: x-y"] {
        assert!(allowed.heads.contains(field), "{field}: {allowed:?}");
    }
    let refused =
        curl.ask("/api/messages", &[&preflight[..], &["-H", "Origin: http://example.org"]].concat());
    refused.expect("403 Forbidden");
}

/// `Expect: 100-continue`, lengths and chunks; a body that is too large is refused before it is sent.
fn sends_large_bodies(curl: &Curl, folder: &Path) {
    let content = "x".repeat(1_000_000);
    let body = |content: &str| json!({"channel_id": "large", "author": "", "content": content}).to_string();
    let (fitting, larger) = (folder.join("fitting"), folder.join("larger"));
    fs::write(&fitting, body(&content)).expect("a file can be written");
    fs::write(&larger, body(&content.repeat(2))).expect("a file can be written");
    let (fitting, larger) = (format!("@{}", fitting.display()), format!("@{}", larger.display()));
    let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "20"];
    let by_length = curl.ask("/api/messages", &[&expect[..], &["--json", &fitting]].concat());
    assert!(by_length.heads.starts_with("HTTP/1.1 100 Continue\r\n"), "{}", by_length.heads);
    by_length.expect("200 OK");
    assert_eq!(by_length.json()["message"]["content"], *content);
    let chunked = ["-H", "Transfer-Encoding: chunked", "--json", &fitting];
    let by_chunks = curl.ask("/api/messages", &[&expect[..], &chunked].concat());
    by_chunks.expect("200 OK");
    assert_eq!(by_chunks.json()["message"]["content"], *content);
    let sent = ["--json", &larger, "-w", "sent %{size_upload}"];
    let refused = curl.ask("/api/messages", &[&expect[..], &sent].concat());
    refused.expect("413 Content Too Large");
    assert!(refused.body.ends_with("sent 0") && !refused.heads.contains(" 100 "), "{refused:?}");
}

/// Several URLs in one call use one connection, even after errors that leave it open.
fn keeps_a_connection(curl: &Curl) {
    let urls = ["/api/nothing", "/api/messages?limit=x", "/ws", "/api/health"].map(|path| curl.url(path));
    let mut arguments = vec!["-o", "/dev/null", "-w", "%{http_code} %{num_connects};"];
    for url in &urls {
        arguments.extend(["-o", "/dev/null", url]);
    }
    let answer = curl.ask("/api/channels", &arguments);
    assert_eq!(answer.body, "404 1;422 0;426 0;200 0;200 0;");
}

/// Acknowledged messages survive a kill, and curl's own retries reach the next server.
fn insists_over_a_kill(curl: Curl, database: &Path) {
    let body = |content: &str| json!({"channel_id": "room", "author": "", "content": content}).to_string();
    let before = curl.ask("/api/messages", &["--json", &body("before")]);
    let (addr, url) = (curl.process.addr(), curl.url("/api/messages"));
    curl.process.kill();
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]);
    command.args(["--json", &body("after"), "-H", "Idempotency-Key: after", &url]).stdout(Stdio::null());
    let mut meanwhile = command.spawn().expect("curl can be run");
    let process = Process::start(|command| {
        command.args([
            OsStr::new("--listen"),
            addr.to_string().as_ref(),
            OsStr::new("--db"),
            database.as_ref(),
        ]);
    });
    let curl = Curl { process };
    assert!(meanwhile.wait().expect("curl ends").success());
    let list = curl.ask("/api/messages?channel_id=room", &[]).json();
    assert_eq!(list["messages"][0], before.json()["message"]);
    assert_eq!(list["messages"][1]["content"], "after", "{list}");
    assert!(list["messages"][2].is_null(), "{list}");
}

impl Curl {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.process.addr())
    }

    fn ask(&self, path: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        // `-q`: without the settings of any user.
        command.args(["-q", "-sS", "-i", "--noproxy", "*", "--max-time", &PATIENCE.as_secs().to_string()]);
        let output = command.args(arguments).arg(self.url(path)).output().expect("curl can be run");
        let text = String::from_utf8(output.stdout).expect("answers are UTF-8");
        assert!(output.status.success(), "{arguments:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        let body = text.rsplit_once("\r\n\r\n").map_or(text.as_str(), |(_, body)| body).to_owned();
        let heads = text[..text.len() - body.len()].to_owned();
        Answer { heads, body }
    }
}

impl Answer {
    /// Checks that the last response has this status.
    fn expect(&self, status: &str) {
        let last = self.heads.rsplit("HTTP/1.1 ").next().unwrap_or_default();
        assert!(last.starts_with(status), "not {status}, but {}", &last[..last.len().min(600)]);
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
