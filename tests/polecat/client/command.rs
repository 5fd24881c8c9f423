//! A command that runs beside the test, with its lines as they arrive.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::process::{Ended, run};
use crate::support::{PATIENCE, Process};

/// Another address of loopback: clients that connect elsewhere do not get its ports, so a server can come
/// back.
const LISTEN: &str = if cfg!(target_os = "linux") { "127.0.78.1:0" } else { "127.0.0.1:0" };

/// A server that can come back where it was.
pub(crate) fn serve(database: &Path, before: Option<SocketAddr>, flags: &[&str]) -> Process {
    let listen = before.map_or_else(|| LISTEN.to_owned(), |addr| addr.to_string());
    Process::start(|command| {
        command.args(["serve", "--listen", &listen, "--db"]).arg(database).args(flags);
    })
}

/// Runs a command against the server at `addr` to its end.
pub(crate) fn ask(addr: SocketAddr, args: &[&str]) -> Ended {
    run(|command| {
        command.args(args).env("POLECAT_URL", format!("http://{addr}"));
    })
}

/// A running command; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    told: Vec<String>,
}

impl Running {
    pub(crate) fn start(addr: SocketAddr, args: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_polecat")), addr, args)
    }

    /// The same, but SIGINT ends it, even if the parent of the tests ignores it.
    pub(crate) fn start_interruptible(addr: SocketAddr, args: &[&str]) -> Self {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_polecat")]);
        Self::start_by(command, addr, args)
    }

    fn start_by(mut command: Command, addr: SocketAddr, args: &[&str]) -> Self {
        command.args(args).env("POLECAT_URL", format!("http://{addr}")).env_remove("POLECAT_DB");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");
        let stdin = child.stdin.take();
        let stdout = lines_of(child.stdout.take().expect("stdout is piped"));
        let stderr = lines_of(child.stderr.take().expect("stderr is piped"));
        Self { child, stdin, stdout, stderr, told: Vec::new() }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).expect("it is taken");
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next `count` lines on stdout.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) => lines.push(line),
                Err(error) => {
                    panic!("{} of {count} lines ({error}); stderr: {:?}", lines.len(), self.told_so_far())
                }
            }
        }
        lines
    }

    /// Waits for a line on stderr with `part` in it.
    pub(crate) fn told(&mut self, part: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no {part:?} ({error}): {:?}", self.told));
            self.told.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn told_so_far(&mut self) -> &[String] {
        self.told.extend(self.stderr.try_iter());
        &self.told
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it can be signalled");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Waits for its end; returns the rest of its output.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let mut rest = Vec::new();
        loop {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:?}", self.told_so_far()),
            }
        }
        let status = self.child.wait().expect("it can be waited for");
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            self.told.push(line);
        }
        (status, rest, std::mem::take(&mut self.told))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines as they arrive; the channel ends when the process does.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Runs a command on a terminal of its own, if the system has `script` for that; returns its output there.
pub(crate) fn on_a_terminal(addr: SocketAddr, args: &str, variables: &[(&str, &str)]) -> Option<String> {
    let binary = env!("CARGO_BIN_EXE_polecat");
    let mut command = Command::new("script");
    command.args([OsStr::new("-qec"), OsStr::new(&format!("'{binary}' {args}")), OsStr::new("/dev/null")]);
    command.env("POLECAT_URL", format!("http://{addr}")).env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
