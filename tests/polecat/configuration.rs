//! Flags, the environment, exit codes and signals: docs/operating.md, "Flags".

use std::net::TcpListener;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;

use crate::support::process::{Ended, run};
use crate::support::socket::message;
use crate::support::{Home, Http, Process, RawSocket, Socket, get, post, raw, skip};

#[test]
fn it_says_where_it_listens_and_serves_there() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    assert_ne!(process.addr().port(), 0, "the port is the one that was found");
    assert_eq!(get(process.addr(), "/api/health").ok(), json!({"status": "ok"}));
    assert!(home.database().exists(), "the database is where --db says");
}

#[test]
fn without_a_command_it_serves_as_the_environment_says() {
    let home = Home::new();
    let process = Process::start(|command| {
        command.env("POLECAT_LISTEN", "127.0.0.1:0").env("POLECAT_DB", home.database());
        command.env("POLECAT_HEARTBEAT_INTERVAL", "0.3").env("POLECAT_MAX_MESSAGE_BYTES", "1000");
        command.env("POLECAT_LOG_LEVEL", "info");
    });
    let mut client = Socket::connect(process.addr(), "/ws");
    client.next_heartbeat();
    let mut client = Socket::connect(process.addr(), "/api/ws");
    client.send_text(&"x".repeat(1001));
    assert_eq!(client.expect_close().0, 1009);
    assert!(home.database().exists(), "the database is where POLECAT_DB says");
}

#[test]
fn flags_win_over_the_environment() {
    let home = Home::new();
    let process = Process::start(|command| {
        command.env("POLECAT_LISTEN", "not an address").env("POLECAT_DB", "/nowhere/at/all.db");
        command.env("POLECAT_HEARTBEAT_INTERVAL", "3600");
        command.args(["serve", "--heartbeat-interval", "0.3", "--listen", "127.0.0.1:0", "--db"]);
        command.arg(home.database());
    });
    Socket::connect(process.addr(), "/ws").next_heartbeat();
}

#[test]
fn an_empty_variable_is_as_none() {
    let help = run(|command| {
        command.args(["serve", "--help"]);
    });
    // Lines are broken between any words.
    let words = help.stdout.split_whitespace().filter(|word| word.starts_with("POLECAT_"));
    let variables = words.filter_map(|word| word.split('=').next()).collect::<Vec<_>>();
    assert!(variables.len() > 30, "{variables:?}");
    let home = Home::new();
    let empty = |command: &mut std::process::Command| {
        command.envs(variables.iter().map(|name| (name, "")));
    };
    let process = Process::start(|command| {
        empty(command);
        command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(home.database());
    });
    assert_eq!(get(process.addr(), "/").status, 200, "the console is there");
    // And the help names them as usual.
    let with_empty = run(|command| {
        empty(command);
        command.args(["serve", "--help"]);
    });
    assert_eq!(with_empty.stdout.matches(" POLECAT_").count(), variables.len(), "{}", with_empty.stdout);
    // The other commands too: whether or not there is a server, the command line is valid.
    let status = run(|command| {
        command.arg("status").env("POLECAT_URL", "");
    });
    assert_ne!(status.status.code(), Some(2), "{status:?}");
}

#[test]
fn a_wrong_flag_is_one_line_and_exit_2() {
    for (args, named) in [
        (&["serve", "--no-such-flag"][..], "--no-such-flag"),
        (&["no-such-command"], "no-such-command"),
        (&["serve", "--listen", "nonsense"], "--listen"),
        (&["serve", "--heartbeat-interval", "soon"], "--heartbeat-interval"),
        (&["serve", "--heartbeat-interval", "0"], "--heartbeat-interval"),
        (&["serve", "--heartbeat-interval", "-1"], "-1"),
        (&["serve", "--heartbeat-interval", "nan"], "--heartbeat-interval"),
        (&["serve", "--max-message-bytes", "-5"], "-5"),
        (&["serve", "--log-level", "shout"], "--log-level"),
    ] {
        let ended = run(|command| {
            command.args(args);
        });
        assert_one_line(&ended, 2, named);
    }
    let ended = run(|command| {
        command.env("POLECAT_HEARTBEAT_INTERVAL", "soon");
    });
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(2), 1), "{ended:?}");
}

#[test]
fn help_is_on_stdout_and_names_every_flag_and_variable() {
    let ended = run(|command| {
        command.args(["serve", "--help"]);
    });
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{ended:?}");
    for name in ["listen", "db", "heartbeat-interval", "max-message-bytes", "log-level"] {
        assert!(ended.stdout.contains(&format!("--{name}")), "{name}: {}", ended.stdout);
        let variable = format!("POLECAT_{}", name.replace('-', "_").to_ascii_uppercase());
        assert!(ended.stdout.contains(&variable), "{variable}: {}", ended.stdout);
    }
}

#[test]
fn a_port_in_use_is_one_line_that_says_what_to_do_and_exit_1() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let ended = run(|command| {
        command.args(["serve", "--listen", &addr, "--db"]).arg(home.database());
    });
    assert_one_line(&ended, 1, &addr);
    assert_one_line(&ended, 1, "--listen");
}

#[test]
fn two_servers_do_not_share_a_port() {
    let home = Home::new();
    let first = Process::serve(&home.database(), &[]);
    let addr = first.addr().to_string();
    let other = Home::new();
    let ended = run(|command| {
        command.args(["serve", "--listen", &addr, "--db"]).arg(other.database());
    });
    assert_one_line(&ended, 1, "--listen");
    assert!(!ended.stderr[0].contains("--db"), "that file is free: {ended:?}");
    assert!(!other.database().exists(), "nothing is left behind");
}

#[test]
fn who_is_started_twice_hears_of_both_the_port_and_the_database() {
    let home = Home::new();
    let first = Process::serve(&home.database(), &[]);
    let addr = first.addr().to_string();
    let ended = run(|command| {
        command.args(["serve", "--listen", &addr, "--db"]).arg(home.database());
    });
    for named in [&addr, "--listen", &home.database().to_string_lossy(), "another polecat", "--db"] {
        assert_one_line(&ended, 1, named);
    }
    get(first.addr(), "/api/health").ok();
}

#[test]
fn a_port_is_free_again_as_soon_as_its_server_has_ended() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let addr = process.addr();
    // The server closes first, so its port remains in TIME-WAIT.
    let mut client = Socket::connect(addr, "/ws");
    process.signal(Signal::TERM);
    client.expect_end();
    assert_eq!(process.wait().status.code(), Some(0));
    let process = Process::start(|command| {
        command.args(["serve", "--listen", &addr.to_string(), "--db"]).arg(home.database());
    });
    assert_eq!(process.addr(), addr);
}

#[test]
fn a_database_that_cannot_be_opened_is_one_line_and_exit_1() {
    let home = Home::new();
    let within_nothing = home.database().join("deeper.db");
    let ended = run(|command| {
        command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(&within_nothing);
    });
    assert_one_line(&ended, 1, "deeper.db");
    assert_one_line(&ended, 1, "its folder does not exist; create it, or name another file");

    let text = "this is a letter, and no database; it is long enough to be told from one.".repeat(20);
    std::fs::write(home.database(), &text).expect("a file");
    let ended = run(|command| {
        command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(home.database());
    });
    assert_one_line(&ended, 1, "polecat.db");
    assert_one_line(&ended, 1, "name another file with --db");
    assert_eq!(std::fs::read_to_string(home.database()).expect("the file"), text, "it is not touched");
}

#[test]
fn sigterm_and_sigint_close_with_1001_commit_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let process = Process::serve(&home.database(), &[]);
        let mut events = Socket::connect(process.addr(), "/ws");
        let mut channel = Socket::connect(process.addr(), "/api/ws/room");
        let mut echo = Socket::connect(process.addr(), "/api/ws");
        let _idle = Http::connect(process.addr());
        for number in 1..=20 {
            post(process.addr(), "/api/messages", &message("room", "a", &number.to_string())).ok();
        }
        process.signal(signal);
        for client in [&mut events, &mut channel, &mut echo] {
            assert_eq!(client.expect_close().0, 1001);
            client.expect_end();
        }
        let ended = process.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let file = Connection::open(home.database()).expect("the file opens");
        let count = file.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.expect("a count"), 20);
    }
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-message-bytes", "1000"]);
    let mut client = RawSocket::connect(process.addr(), "/api/ws");
    let longest = vec![b'x'; 1000];
    client.send_frame(true, raw::TEXT, &longest);
    assert_eq!(client.next_message().payload, longest);
    client.send_frame(true, raw::TEXT, &[b'x'; 1001]);
    assert_eq!(client.expect_close(), 1009);

    let mut client = RawSocket::connect(process.addr(), "/api/ws/room");
    // The length alone is enough: the server does not wait for the message.
    let mut head = vec![0x81, 0x80 | 127];
    head.extend((1_u64 << 40).to_be_bytes());
    client.send(&head);
    client.send(&[1, 2, 3, 4]);
    assert_eq!(client.expect_close(), 1009);

    let body = message("room", "a", &"x".repeat(1000)).to_string();
    let mut http = Http::connect(process.addr());
    let answer = http.request("POST", "/api/messages", &[], Some(&body));
    assert_eq!(answer.status, 413, "a request's body has the same limit");
}

#[test]
fn the_limit_binds_a_message_in_fragments_but_not_their_number() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &["--max-message-bytes", "1000"]);
    let mut client = RawSocket::connect(process.addr(), "/api/ws");
    let mut bytes = raw::frame(false, raw::TEXT, b"");
    for _ in 0..1000 {
        bytes.extend(raw::frame(false, raw::CONTINUATION, b"x"));
        bytes.extend(raw::frame(false, raw::CONTINUATION, b""));
    }
    bytes.extend(raw::frame(true, raw::CONTINUATION, b""));
    client.send(&bytes);
    assert_eq!(client.next_message().payload, vec![b'x'; 1000]);

    client.send_frame(false, raw::BINARY, &[7; 600]);
    client.send_frame(false, raw::CONTINUATION, &[7; 400]);
    client.send_frame(false, raw::CONTINUATION, &[7; 1]);
    assert_eq!(client.expect_close(), 1009);
}

#[test]
fn it_is_quiet_under_load() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    for number in 0..100 {
        let target = if number % 2 == 0 { "/ws" } else { "/api/ws/room" };
        let mut client = Socket::connect(process.addr(), target);
        client.send_text("rubbish");
        post(process.addr(), "/api/messages", &message("room", "a", "c")).ok();
        get(process.addr(), "/nothing");
        client.reset();
    }
    process.signal(Signal::TERM);
    let ended = process.wait();
    assert!(ended.stderr.len() < 20, "{:#?}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn connections_that_ended_leave_nothing_open() {
    let home = Home::new();
    let process = Process::serve(&home.database(), &[]);
    let mut http = Http::connect(process.addr());
    http.post("/api/messages", &message("room", "a", "c")).ok();
    http.get("/api/messages").ok();
    let Some(before) = process.open_files() else {
        skip("open files are not counted, since there is no /proc");
        return;
    };
    for number in 0..60 {
        let client = Socket::connect(process.addr(), ["/ws", "/api/ws/room", "/api/ws"][number % 3]);
        match number % 2 {
            0 => client.reset(),
            _ => assert_eq!(client.close().0, 1000),
        }
        drop(Http::connect(process.addr()));
    }
    // Each request takes at least one turn of the loop, in which ends are noticed.
    let left = (0..10_000).find(|_| {
        http.expect_open();
        process.open_files() <= Some(before)
    });
    assert!(left.is_some(), "{before} files were open before, now {:?}", process.open_files());
}

fn assert_one_line(ended: &Ended, code: i32, named: &str) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "one line: {ended:?}");
    assert!(ended.stderr[0].contains(named), "{named:?} is to be named: {ended:?}");
}
