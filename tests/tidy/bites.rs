//! Self-tests: each check of `tidy` on a made-up snippet with a fault that it must find, and on one that only
//! looks like a fault.

use super::faults::stale;
use super::floors::Floors;
use super::owners::{replaced_names, server_methods, visible_fields};
use super::phrases::{of_document, of_source};
use super::source::Source;
use super::{banned, citations, lengths, lists, packages, patience, runtimes, trees, untested, world};

fn at(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// The lines with faults, each once.
fn lines(faults: &[String]) -> Vec<usize> {
    let number = |fault: &String| fault.split(':').nth(1).and_then(|line| line.parse().ok());
    let mut lines = faults.iter().filter_map(number).collect::<Vec<_>>();
    lines.dedup();
    lines
}

fn floors() -> Floors {
    Floors::of(&[
        at("src/lib.rs", "pub mod base;\npub mod wire;\npub mod hub;\n"),
        at("src/base/mod.rs", "pub mod time;\npub mod id;\n"),
        at("src/wire/mod.rs", "pub mod http;\npub(crate) mod codec;\nmod inner;\n"),
        at("src/wire/inner.rs", "mod first;\nmod last;\n"),
    ])
}

#[test]
fn a_module_that_looks_up_is_found() {
    let floors = floors();
    let faults = |path: &str, text: &str| lines(&floors.faults(&at(path, text)));
    assert_eq!(faults("src/base/time.rs", "use std::fmt;\nuse crate::wire::http;\n"), [2]);
    assert_eq!(faults("src/wire/http.rs", "fn f() -> crate::hub::X {}\n"), [1], "a path within the code");
    assert_eq!(faults("src/wire/http.rs", "use crate::{\n    base::{id, time},\n    hub::Hub,\n};\n"), [1]);
    assert_eq!(faults("src/wire/http.rs", "use super::codec::Frame;\n"), [1], "a room listed after it");
    assert_eq!(faults("src/wire/http.rs", "use super::super::hub::Hub;\n"), [1]);
    assert_eq!(faults("src/wire/codec.rs", "use super::inner::X;\n"), [1], "a private room");
    assert_eq!(faults("src/base/mod.rs", "use crate::wire::http;\n"), [1]);
    assert_eq!(faults("src/wire/http/parts.rs", "use crate::wire::codec::X;\n"), [1], "a folder is a room");
    assert_eq!(faults("src/wire/inner/first.rs", "use super::last::X;\n"), [1], "a folder of a folder");
    assert_eq!(
        faults("src/wire/codec.rs", "use super::inner::last::X;\n"),
        [1],
        "a room of a room listed after it"
    );
    let test = "#[cfg(test)]\nmod tests {\n    use super::*;\n    use super::super::codec::X;\n}\n";
    assert_eq!(faults("src/wire/http.rs", test), [4]);
}

#[test]
fn a_module_that_looks_down_is_fine() {
    let floors = floors();
    let faults = |path: &str, text: &str| floors.faults(&at(path, text));
    for (path, text) in [
        ("src/wire/codec.rs", "use super::http::Head;\nuse crate::base::{id::Id, time};\n"),
        (
            "src/wire/codec.rs",
            "//! See [`crate::hub`].\nconst X: &str = \"crate::hub::X\"; // crate::hub::X\n",
        ),
        ("src/wire/codec.rs", "use crate::wire::codec::Own;\nuse other::hub::X;\n"),
        ("src/wire/mod.rs", "pub use codec::X;\nuse crate::wire::codec::X;\n"),
        ("src/wire/inner/last.rs", "use super::first::X;\nuse super::super::codec::X;\n"),
        ("src/wire/inner/first.rs", "use super::Own;\n"),
        ("src/wire/http.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}\n"),
        ("src/main.rs", "use polecat::hub::X;\n"),
    ] {
        assert_eq!(faults(path, text), [""; 0], "{text}");
    }
}

/// The files of a crate that are in a circle, each once.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| at(path, text)).collect::<Vec<_>>();
    let faults = Floors::of(&sources).circles(&sources);
    let mut found =
        faults.iter().filter_map(|fault| Some(fault.split_once(':')?.0.to_owned())).collect::<Vec<_>>();
    found.dedup();
    found
}

#[test]
fn files_in_a_circle_are_found() {
    let lib = ("src/lib.rs", "mod a;\nmod b;\n");
    let list = ("src/a/mod.rs", "mod x;\nmod y;\nmod z;\n");
    let uses_parent = ("src/a/x.rs", "use super::Item;\n");
    let uses_child = ("src/a/mod.rs", "mod x;\npub use x::Other;\nstruct Item;\n");
    assert_eq!(
        circles(&[lib, uses_child, uses_parent]),
        ["src/a/mod.rs", "src/a/x.rs"],
        "a folder and its file"
    );
    let round = [
        ("src/a/x.rs", "impl super::z::Z {}\n"),
        ("src/a/y.rs", "use super::x::X;\n"),
        ("src/a/z.rs", "fn f() -> crate::a::y::Y {}\n"),
    ];
    assert_eq!(circles(&[&[lib, list], &round[..]].concat()), ["src/a/x.rs", "src/a/y.rs", "src/a/z.rs"]);
    let first = "struct T;\nimpl<S: Into<u8>> T<S>\nwhere\n    S: Copy,\n{\n    fn f(&self) {\n        self.g(1);\n    }\n}\n";
    let second = "use super::x::T;\nimpl<S> fmt::Debug for T<S> {\n    fn g(&self) {}\n}\n";
    let methods = [lib, list, ("src/a/x.rs", first), ("src/a/y.rs", second)];
    assert_eq!(circles(&methods), ["src/a/x.rs", "src/a/y.rs"], "a method called by way of `self`");
}

#[test]
fn files_in_an_order_are_fine() {
    let lib = ("src/lib.rs", "mod a;\nmod b;\n");
    let first = "struct T;\nimpl T {\n    fn f(&self) {\n        self.g.h();\n        other.g();\n    }\n}\n";
    let second = "use super::x::T;\nimpl T {\n    fn g(&self) {\n        self.f();\n    }\n}\n";
    let ordered = [lib, ("src/a/mod.rs", "mod x;\nmod y;\n"), ("src/a/x.rs", first), ("src/a/y.rs", second)];
    assert_eq!(circles(&ordered), [""; 0]);
    let tests = "#[cfg(test)]\nmod tests {\n    use super::super::y::Y;\n    use super::*;\n}\n";
    let tested = [
        lib,
        ("src/a/mod.rs", "mod x;\nmod y;\n"),
        ("src/a/x.rs", tests),
        ("src/a/y.rs", "use super::x::X;\n"),
    ];
    assert_eq!(circles(&tested), [""; 0], "what tests alone use");
    let others = "struct T;\nimpl T {\n    fn g(&self) {}\n}\nuse super::x::X;\n";
    let same = [
        lib,
        ("src/a/x.rs", "impl T {\n    fn f(&self) {\n        self.g();\n    }\n    fn g(&self) {}\n}\n"),
        ("src/a/y.rs", others),
    ];
    assert_eq!(circles(&same), [""; 0], "a method of one name in two files");
}

#[test]
fn code_in_the_list_of_a_folder_is_found() {
    for text in ["fn f() {}", "pub struct S;", "impl S {}", "pub(crate) const X: u8 = 1;", "enum E {}"] {
        assert_eq!(lines(&lists(&at("src/a/mod.rs", &format!("mod x;\n{text}\n")))), [2], "{text}");
        assert_eq!(lists(&at("src/a/x.rs", text)), [""; 0], "{text}");
    }
    let fine = "//! A struct, and an impl.\n\n#[cfg(test)]\nmod tests;\npub(crate) mod x;\n\npub use x::{A, type_of};\n";
    assert_eq!(lists(&at("src/a/mod.rs", fine)), [""; 0]);
}

#[test]
fn a_fault_that_cannot_be_planted_is_found() {
    let sources = [
        at("src/a.rs", "fn f() {\n    once();\n    twice();\n    twice();\n}\n"),
        at("src/b.rs", "fn g() {}\n"),
    ];
    let stale = |change: &str| stale("x.fault", &format!("what it does\n\n{change}\n"), &sources).len();
    assert_eq!(stale("- once();\n+ never();"), 0);
    assert_eq!(stale("  once();\n- twice();\n\n- fn g() {}"), 0, "two changes");
    assert_eq!(stale("- twice();"), 1, "at two places");
    assert_eq!(stale("- gone();\n\n- once();"), 1);
    assert_eq!(stale("  twice();\n+ thrice();"), 1);
    assert_eq!(stale("+ anywhere();"), 1);
}

#[test]
fn the_world_outside_of_the_shell_is_found() {
    for text in [
        "use mio::Poll;",
        "use rusqlite::Connection;",
        "fn f() { socket2::Socket::new(); }",
        "use signal_hook::flag;",
        "use rustix::process;",
        "use std::net::TcpStream;",
        "use std::{io, fs::{self, File}};",
        "fn f() { std::env::var(\"X\"); }",
        "use std::time::{Duration, Instant};",
        "fn f(now: SystemTime) {}",
        "use std::thread;",
        "fn f() { println!(\"x\"); }",
        "fn f() { eprintln!(\"x\"); }",
        "fn f() { fastrand::u64(..); }",
        "fn f() { uuid::Uuid::new_v4(); }",
        "fn f() { fastrand::Rng::new(); }",
    ] {
        assert_eq!(lines(&world(&at("src/hub/x.rs", text))), [1], "{text}");
        assert_eq!(world(&at("src/shell/x.rs", text)), [""; 0], "{text}");
    }
    let fine = "use std::time::Duration;\nlet mionics = \"mio\"; // rusqlite\nuse std::collections::VecDeque;
        fn f(rng: &mut fastrand::Rng) { fastrand::Rng::with_seed(1); }\n";
    assert_eq!(world(&at("src/hub/x.rs", fine)), [""; 0]);
}

#[test]
fn trees_of_json_are_found() {
    for text in [
        "use serde_json::Value;",
        "use serde_json::{Map, Number};",
        "fn f() { serde_json::json!(1); }",
        "use serde_json::value::Value;",
        "fn f() { serde_json::from_str::<serde_json::Value>(\"\"); }",
    ] {
        assert_eq!(lines(&trees(&at("src/wire/x.rs", text))), [1], "{text}");
        assert_eq!(trees(&at("src/shell/x.rs", text)), [""; 0], "{text}");
    }
    for fine in [
        "use serde_json::value::RawValue;",
        "use serde_json::{Error, Number};",
        "#[cfg(test)]\nmod tests {\n    use serde_json::Value;\n}\n",
    ] {
        assert_eq!(trees(&at("src/wire/x.rs", fine)), [""; 0], "{fine}");
    }
}

#[test]
fn banned_names_are_found() {
    for text in [
        "fn f() { unsafe { g() } }",
        "async fn f() {}",
        "fn f() { todo!() }",
        "fn f() { unimplemented!() }",
        "fn f() { dbg!(1); }",
    ] {
        assert_eq!(lines(&banned(&at("tests/x.rs", text))), [1], "{text}");
    }
    let text = "fn f() {\n    a.unwrap();\n    b.expect(\"c\");\n    panic!(\"d\");\n}\n";
    assert_eq!(lines(&banned(&at("src/wire/x.rs", text))), [2, 3, 4]);
    let in_tests = format!("fn g() {{}}\n#[cfg(test)]\nmod tests {{\n{text}}}\n");
    assert_eq!(banned(&at("src/wire/x.rs", &in_tests)), [""; 0]);
    assert_eq!(lines(&banned(&at("src/wire/x.rs", &format!("{in_tests}{text}")))), [11, 12, 13]);
    assert_eq!(banned(&at("src/wire/x/tests.rs", text)), [""; 0]);
    let fine = "#![forbid(unsafe_code)]\n// unsafe\nlet a = \"todo!\";\nlet b = r#\"\"dbg!\"#;\nlet c = '\"'; // async
        let d = b'\\'';\nfn e<'a>(x: &'a str) -> &'a str { x.unwrap_or_default() }\n/* /* panic! */ unsafe */\n";
    assert_eq!(banned(&at("src/wire/x.rs", fine)), [""; 0]);
    assert_eq!(lines(&banned(&at("src/wire/x.rs", "let a = 'é'; let b = \"\\\"\"; unsafe {}"))), [1]);
}

#[test]
fn long_files_and_functions_are_found() {
    assert_eq!(lengths(&at("src/x.rs", &"\n".repeat(500))), [""; 0]);
    assert_eq!(lengths(&at("src/x.rs", &"\n".repeat(501))).len(), 1);
    let function = |body: usize| {
        let body = "        g(|| { 1 }, \"}\");\n".repeat(body);
        format!(
            "impl A {{\n    /// Why.\n    pub const fn f(\n        b: [u8; 4],\n    ) -> B {{\n{body}    }}\n}}\n"
        )
    };
    assert_eq!(lengths(&at("src/x.rs", &function(56))), [""; 0], "four lines are its signature and its end");
    assert_eq!(lines(&lengths(&at("src/x.rs", &function(57)))), [3]);
    assert_eq!(lengths(&at("tests/x.rs", &function(76))), [""; 0], "a test may be longer");
    assert_eq!(lines(&lengths(&at("tests/x.rs", &function(77)))), [3]);
    let declared =
        format!("trait A {{\n    fn f(x: fn(u8) -> u8);\n{}}}\n", "    const X: u8 = 1;\n".repeat(90));
    assert_eq!(lengths(&at("src/x.rs", &declared)), [""; 0], "what has no body has no length");
}

#[test]
fn sleeps_and_fixed_ports_are_found() {
    for text in [
        "fn f() { std::thread::sleep(d); }",
        "fn f() { thread::sleep(d); }",
        "use std::thread::{sleep, spawn};",
        "fn f() { thread::park_timeout(d); }",
    ] {
        assert_eq!(lines(&patience(&at("tests/x.rs", text))), [1], "{text}");
        assert_eq!(lines(&patience(&at("src/shell/x.rs", text))), [1], "{text}");
    }
    for text in [
        "use std::time::{Duration, Instant};",
        "fn f() { let begun = std::time::Instant::now(); }",
        "fn f() { SystemTime::now() }",
        "fn f() { assert!(begun.elapsed() < LIMIT); }",
    ] {
        assert_eq!(lines(&patience(&at("tests/x.rs", text))), [1], "{text}");
        assert_eq!(lines(&patience(&at("src/shell/x/tests.rs", text))), [1], "{text}");
        for path in ["src/shell/x.rs", "benches/x.rs", "tests/polecat/support/patience.rs"] {
            assert_eq!(patience(&at(path, text)), [""; 0], "{path}: {text}");
        }
    }
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let fixed = format!("\n\nlet a = \"{host}:{}\";\n", 8010);
        assert_eq!(lines(&patience(&at("tests/x.rs", &fixed))), [3], "{fixed}");
        assert_eq!(patience(&at("src/shell/options.rs", &fixed)), [""; 0], "a default is no test's port");
    }
    let pair = format!("let a = ([127, 0, 0, 1], {});\n", 80);
    assert_eq!(lines(&patience(&at("tests/x.rs", &pair))), [1]);
    let fine = "let a = \"127.0.0.1:0\"; let b = ([127, 0, 0, 1], 0); // thread::sleep\nfn sleep() { clock.sleep(1) }\n";
    assert_eq!(patience(&at("tests/x.rs", fine)), [""; 0]);
}

#[test]
fn a_runtime_in_the_lock_file_is_found() {
    let lock = "[[package]]\nname = \"tokio\"\nversion = \"1\"\n\n[[package]]\nname = \"tokio-like\"\n";
    assert_eq!(runtimes(lock).len(), 1);
    assert_eq!(runtimes("[[package]]\nname = \"mio\"\n"), [""; 0]);
}

#[test]
fn a_missing_package_is_found() {
    let all = "[package]\nname = \"x\"\n\n[dependencies]\nmio = \"1\"\ntungstenite = \"1\"\nhttparse = \"1\"\nserde = \"1\"
serde_json = \"1\"\nslab = \"1\"\nlog = \"1\"\nsimple_logger = { version = \"1\" }\n\n[dev-dependencies]\ntempfile = \"3\"\n";
    assert_eq!(packages(all), [""; 0]);
    assert_eq!(packages(&all.replace("mio = ", "nio = ")).len(), 1);
    let moved = all.replace("slab = \"1\"\n", "") + "slab = \"1\"\n";
    assert_eq!(packages(&moved).len(), 1, "for tests alone is not enough");
}

#[test]
fn a_section_that_no_test_cites_is_found() {
    let cites = at("tests/polecat/x.rs", "//! PROTOCOL.md, \"1. Ids\".\n");
    assert_eq!(untested("# T\n## 1. Ids\n### 1.1 More\n", std::slice::from_ref(&cites)), [""; 0]);
    assert_eq!(untested("## 1. Ids\n## 2. Other\n", &[cites]).len(), 1);
}

#[test]
fn a_citation_of_no_section_is_found() {
    let document = |_: &str| "# Title\n\n## Resume\n".to_owned();
    let cite = |heading: &str| at("tests/x.rs", &format!("//! See PROTOCOL.md, {heading:?}.\n"));
    assert_eq!(citations(&cite("Resume"), document), [""; 0]);
    assert_eq!(lines(&citations(&cite("Resumption"), document)), [1]);
}

#[test]
fn phrases_that_are_read_twice_are_found() {
    let faults = |text: &str| lines(&of_document("x.md", text));
    for text in [
        "Who connects is served.",
        "It is served. Who connects",
        "- Who connects",
        "| **Who** connects |",
        "a page for who wants it",
        "a page for\nwho wants it",
        "Where there is none,",
        "It comes again.",
        "beyond so many",
        "Whoever reads it",
        "rubbish",
        "What is published is stored.",
    ] {
        assert_eq!(faults(text), [1], "{text}");
    }
    assert_eq!(faults("fine\n\nsame\nof\nlate\n"), [4], "the line at which it begins");
    for text in [
        "Clients who connect are served.",
        "It is noted, and also many others.",
        "Where to go on",
        "Whatever is published is stored. What it means:",
        "The outlet goes there.",
        "`polecat_rubbish_total` was",
        "```\nso many\n```\nfew",
    ] {
        assert_eq!(faults(text), [0; 0], "{text}");
    }
}

#[test]
fn phrases_of_comments_and_texts_are_found() {
    let faults = |text: &str| lines(&of_source(&at("src/wire/x.rs", text)));
    for text in [
        "fn f() {}\n/// Who asks is answered.\n",
        "fn f() {}\nlet a = \"it comes again\";\n",
        "fn f() {}\nlet a = 1; // é, of late\n",
        "fn f() {}\n//! for\n//! who asks\n",
    ] {
        assert_eq!(faults(text), [2], "{text}");
    }
    let fine = "/// A client `so many` times.\nfn let_go(so: u8) -> so {}\n/// so\nfn many() {}\n// It is no longer there.\n";
    assert_eq!(faults(fine), [0; 0]);
}

#[test]
fn fields_methods_and_names_out_of_place_are_found() {
    let fields = "struct Channel {\n    pub(super) a: u8,\n    b: u8,\n    pub c: u8,\n}\nstruct Other {\n    pub d: u8,\n}\n";
    assert_eq!(lines(&visible_fields(&at("src/hub/x.rs", fields))), [4]);
    assert_eq!(visible_fields(&at("src/load/x.rs", fields)), [""; 0]);
    let methods = at("src/server/x.rs", "impl<S: Socket> Server<S> {\n}\n");
    assert_eq!(server_methods(&methods, &["x.rs"]), [""; 0]);
    assert_eq!(server_methods(&methods, &[]).len(), 1);
    assert_eq!(server_methods(&at("src/server/x.rs", "fn f() {}\n"), &["x.rs"]).len(), 1);
    let names = "fn f(one: &Exchange) {}\nfn g(all: &Exchanges) {}\n";
    assert_eq!(lines(&replaced_names(&at("src/server/x.rs", names))), [1]);
    assert_eq!(replaced_names(&at("src/hub/x.rs", names)), [""; 0]);
}
