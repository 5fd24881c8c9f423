//! promtool: `/metrics` as Prometheus itself reads it (PROTOCOL 3.11).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Process;
use crate::{PATIENCE, tool};

/// promtool's complaints about these metrics, and whether it accepts them.
fn lint(text: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// A block of docs/operating.md that begins with `start`, checked as this kind of file.
fn check_of_document(what: &str, start: &str) {
    let document = include_str!("../../docs/operating.md");
    let block = document.split("```yaml\n").find(|block| block.starts_with(start)).expect("the block");
    let block = block.split("```").next().expect("its end");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("block.yml");
    std::fs::write(&file, block).expect("a file");
    let output = Command::new("promtool").args(["check", what]).arg(&file).output();
    let output = output.expect("promtool can be run");
    assert!(output.status.success(), "{block}\n{output:?}");
}

#[test]
fn promtool_reads_what_is_recommended() {
    if tool::are_there(&[Path::new("promtool")]) {
        check_of_document("config", "scrape_configs:");
        check_of_document("rules", "groups:");
    }
}

#[test]
fn promtool() {
    if !tool::are_there(&[Path::new("promtool")]) {
        return;
    }
    let (is_content, said) = lint("# TYPE a_total gauge\na_total 1\n");
    assert!(!is_content && said.contains("a_total"), "it finds what is wrong: {said}");
    let home = tempfile::tempdir().expect("a temporary directory");
    let process = Process::serve(&home.path().join("polecat.db"), &[]);
    let mut stream = TcpStream::connect(process.addr()).expect("the server accepts a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let request = b"GET /metrics HTTP/1.1\r\nHost: polecat.test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("the server reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("the server answers, and closes");
    let (head, text) = response.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 ") && text.contains("polecat_turns_total"), "{response}");
    assert_eq!(lint(text), (true, String::new()), "{text}");
}
