//! Real clients: each connects, publishes, gets Pings, sends messages of the maximum size and larger, is
//! closed, and resumes over kills of the server, with nothing missing, duplicated or out of order. The
//! scripts list their checks.

use std::path::Path;
use std::process::Command;

use crate::skip::say;
use crate::tool;

#[test]
fn python_websockets() {
    python("python_websockets", "websockets");
}

#[test]
fn python_aiohttp() {
    python("python_aiohttp", "aiohttp");
}

#[test]
fn npm_ws() {
    node("npm_ws", "clients/with_ws.mjs", &[]);
}

#[test]
fn polecat_js() {
    node("polecat_js", "clients/with_polecat_js.mjs", &[]);
}

#[test]
fn chromium() {
    node("chromium", "clients/with_chromium.mjs", &[Path::new("chromium")]);
}

#[test]
fn python_jsonschema() {
    python("python_jsonschema", "jsonschema");
}

#[test]
fn console() {
    node("console", "clients/with_console.mjs", &[Path::new("chromium")]);
}

#[test]
fn recipes() {
    node("recipes", "clients/with_recipes.mjs", &[Path::new("curl"), Path::new("chromium"), &tool::python()]);
}

fn python(test: &str, package: &str) {
    if !tool::are_there(&[&tool::python()]) {
        return;
    }
    let mut command = Command::new(tool::python());
    // No `__pycache__` among the sources.
    command.arg("-B").arg(tool::beside(&format!("clients/with_{package}.py")));
    expect_success(test, command.arg(env!("CARGO_BIN_EXE_polecat")));
}

fn node(test: &str, script: &str, more: &[&Path]) {
    let package = tool::folder().join("node_modules/ws");
    if !tool::are_there(&[&[Path::new("node"), &package], more].concat()) {
        return;
    }
    let mut command = Command::new("node");
    command.arg(tool::beside(script)).arg(env!("CARGO_BIN_EXE_polecat")).arg(tool::folder());
    expect_success(test, &mut command);
}

fn expect_success(test: &str, command: &mut Command) {
    let run = tool::run(command);
    assert!(run.status.success(), "{command:?}: {}\n{}", run.status, run.output);
    let parts = run.output.lines().collect::<Vec<_>>().join(", ");
    say(&format!("{test}: {parts}"));
}
