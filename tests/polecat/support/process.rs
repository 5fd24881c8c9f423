//! The binary, run as a user would.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// A running `polecat`; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    addr: SocketAddr,
    stderr: Receiver<String>,
    lines: Vec<String>,
}

/// The end of a process, and its output.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: Vec<String>,
    pub(crate) stdout: String,
}

/// Bytes of memory that a process has in use, as the kernel counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) resident_peak: u64,
}

impl Process {
    /// `polecat serve` on a free port and `database`, with more flags.
    pub(crate) fn serve(database: &Path, flags: &[&str]) -> Self {
        Self::start(|command| {
            command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(database).args(flags);
        })
    }

    /// The same in a shell that runs `before` first, and then becomes the server.
    pub(crate) fn serve_after(before: &str, database: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_polecat")]);
        command.args(["serve", "--listen", "127.0.0.1:0", "--db"]).arg(database).args(flags);
        Self::listening(spawn(command))
    }

    /// The same on `listen`; `before` is a command that runs its arguments as a command.
    pub(crate) fn serve_by(before: &[&str], listen: &str, database: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).args([env!("CARGO_BIN_EXE_polecat"), "serve", "--listen", listen, "--db"]);
        command.arg(database).args(flags);
        Self::listening(spawn(command))
    }

    /// A server on `first` and `second`, which are handed over as systemd does it: as descriptors 3 and 4.
    pub(crate) fn serve_on(
        first: &TcpListener,
        second: Option<&TcpListener>,
        configure: impl FnOnce(&mut Command),
    ) -> Self {
        let (count, more) = if second.is_some() { (2, "4>&1 ") } else { (1, "") };
        let script = format!(
            "exec 3<&0 {more}0</dev/null >/dev/null; \
             export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" \"$@\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_polecat"), "serve"]);
        configure(&mut command);
        let handed =
            |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().expect("a copy")));
        let stdout = second.map_or_else(Stdio::null, handed);
        Self::listening(spawn_with(command, handed(first), stdout))
    }

    /// Starts the binary as `configure` says, and waits until it listens.
    pub(crate) fn start(configure: impl FnOnce(&mut Command)) -> Self {
        Self::listening(spawn(polecat(configure)))
    }

    fn listening(mut child: Child) -> Self {
        let stderr = lines_of(child.stderr.take().expect("stderr is piped"));
        let mut lines = Vec::new();
        let addr = loop {
            let line = match stderr.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => {
                    child.kill().ok();
                    panic!("no line says where it listens ({error}): {lines:?}");
                }
            };
            let place = line.split_once("listening on http://").map(|(_, place)| place.to_owned());
            lines.push(line);
            if let Some(place) = place {
                let addr = place.split_whitespace().next().unwrap_or_default();
                break addr.parse().unwrap_or_else(|error| panic!("{error}: {place:?}"));
            }
        };
        Self { child, addr, stderr, lines }
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, and the wait for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process can be signalled");
    }

    /// The next line on stderr that begins with `start`; earlier ones are kept for the end.
    pub(crate) fn next_line(&mut self, start: &str) -> String {
        self.next_line_where(start, |line| line.starts_with(start))
    }

    /// The same for a logged line, which has its time in front.
    pub(crate) fn next_logged(&mut self, text: &str) -> String {
        self.next_line_where(text, |line| line.contains(text))
    }

    fn next_line_where(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no {what:?} ({error}): {:?}", self.lines));
            self.lines.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait(mut self) -> Ended {
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the process does not end: {:?}", self.lines),
            }
        }
        let status = self.child.wait().expect("the process can be waited for");
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("stdout is UTF-8");
        }
        Ended { status, stderr: std::mem::take(&mut self.lines), stdout }
    }

    /// Its memory in use; `None` if the system has no `/proc`.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
        };
        Some(Memory { resident: field("VmRSS:")?, resident_peak: field("VmHWM:")? })
    }

    /// How many files and sockets it has open; `None` if the system has no `/proc`.
    pub(crate) fn open_files(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok()?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If it has been waited for, there is nothing left to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the binary to its end, which must come by itself.
pub(crate) fn run(configure: impl FnOnce(&mut Command)) -> Ended {
    let mut child = spawn(polecat(configure));
    let stderr = lines_of(child.stderr.take().expect("stderr is piped"));
    Process { child, addr: ([127, 0, 0, 1], 0).into(), stderr, lines: Vec::new() }.wait()
}

fn polecat(configure: impl FnOnce(&mut Command)) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polecat"));
    configure(&mut command);
    command
}

fn spawn(command: Command) -> Child {
    spawn_with(command, Stdio::null(), Stdio::piped())
}

fn spawn_with(mut command: Command, stdin: Stdio, stdout: Stdio) -> Child {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POLECAT_") {
            // Variables that the test itself has set stay.
            if command.get_envs().all(|(set, _)| set != name) {
                command.env_remove(name);
            }
        }
    }
    command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
    command.spawn().expect("the binary can be run")
}

/// The lines as they arrive; the channel ends when the process does.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
