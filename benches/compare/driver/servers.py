"""The servers: how each is installed, started, and what it can do."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
HERE = TOP / "benches" / "compare"
BUILT = TOP / "target" / "compare"
POLECAT = TOP / "target" / "release" / "polecat"
NCHAN_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
START_SECONDS = 20

# With two cores the server has one, and the load has the other.
CORES = sorted(os.sched_getaffinity(0))


class Unavailable(Exception):
    """Why a server, or one workload of it, cannot be had."""


def run(command, folder=TOP, environment=None):
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise Unavailable(f"`{command[0]}` cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"`{' '.join(str(word) for word in command[:3])}` failed: {last}")
    return done.stdout


def pinned(place, command):
    words = [str(word) for word in command]
    if len(CORES) < 2 or not shutil.which("taskset"):
        return words
    return ["taskset", "-c", str(CORES[place]), *words]


def cargo(folder, target):
    run(["cargo", "build", "--release", "--locked", "--quiet"], folder, {"CARGO_TARGET_DIR": str(target)})


def debian(needed, *packages):
    """Installs Debian packages where `needed` says that they are missing."""
    if not needed():
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"needs Debian's {', '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"])
    run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], environment=quiet)


def venv(name):
    """A virtual environment with exactly what the peer's requirements.txt names."""
    folder, wanted = BUILT / name, HERE / "peers" / name / "requirements.txt"
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return
    run(["python3", "-m", "venv", "--clear", folder])
    run([folder / "bin" / "pip", "install", "--quiet", "--requirement", wanted])
    stamp.write_text(wanted.read_text())


class Server:
    """One way to run one server. `name` is how it is asked for, `label` how it is told of."""

    stores = False
    posts_raw = False
    post_path = "/api/messages"
    # Workloads that it cannot do, by their id or the first part of it, and why.
    cannot = {}

    def __init__(self, name, label, *flags):
        self.name, self.label, self.flags = name, label, flags

    def install(self):
        """Builds or installs what is missing."""

    def version(self):
        return ""

    def command(self, port, home, options):
        raise NotImplementedError


class Floor(Server):
    cannot = {"stored": "it stores nothing"}

    def install(self):
        cargo(HERE / "floor", BUILT / "floor")

    def version(self):
        return "in `floor/`"

    def command(self, port, home, options):
        beat = ["--heartbeat", options["heartbeat"]] if "heartbeat" in options else []
        return [BUILT / "floor" / "release" / "compare-floor", port, *self.flags, *beat]


class Polecat(Server):
    stores = True

    def install(self):
        cargo(TOP, TOP / "target")

    def version(self):
        return run([POLECAT, "--version"]).strip()

    def command(self, port, home, options):
        store = home / "polecat.db" if options.get("stores") else "off"
        beat = ["--heartbeat-interval", options["heartbeat"]] if "heartbeat" in options else []
        return [POLECAT, "serve", "--listen", f"127.0.0.1:{port}", "--db", store, "--log-level", "warn", *beat]


class Axum(Server):
    def install(self):
        cargo(HERE / "peers" / "axum", BUILT / "axum")

    def version(self):
        lock = (HERE / "peers" / "axum" / "Cargo.lock").read_text()
        found = {}
        for package in lock.split("[[package]]")[1:]:
            fields = dict(line.split(" = ", 1) for line in package.splitlines() if " = " in line)
            found[fields["name"].strip('"')] = fields["version"].strip('"')
        return ", ".join(f"{name} {found[name]}" for name in ("axum", "tokio", "tungstenite"))

    def command(self, port, home, options):
        return [BUILT / "axum" / "release" / "compare-axum", port, *self.flags]


class Fastapi(Server):
    stores = True

    def install(self):
        venv("fastapi")

    def version(self):
        return requirements("fastapi")

    def command(self, port, home, options):
        store = home / "messages.db" if options.get("stores") else "off"
        return [BUILT / "fastapi" / "bin" / "python", HERE / "peers" / "fastapi" / "app.py", port, store]


class Ws(Server):
    def install(self):
        if not shutil.which("npm"):
            raise Unavailable("needs Node.js and npm")
        folder, source = BUILT / "ws", HERE / "peers" / "ws"
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / "package-lock.json"
        is_installed = lock.exists() and lock.read_text() == (source / "package-lock.json").read_text()
        for file in ("server.mjs", "package.json", "package-lock.json"):
            shutil.copy(source / file, folder / file)
        if not is_installed or not (folder / "node_modules" / "ws").exists():
            run(["npm", "ci", "--no-audit", "--no-fund"], folder)

    def version(self):
        package = json.loads((HERE / "peers" / "ws" / "package.json").read_text())
        return f"ws {package['dependencies']['ws']}, Node.js {run(['node', '--version']).strip()}"

    def command(self, port, home, options):
        return ["node", BUILT / "ws" / "server.mjs", port]


class Nchan(Server):
    posts_raw = True
    post_path = "/publish/bench"
    cannot = {"echo": "it has no echo"}

    def install(self):
        missing = lambda: not (shutil.which("nginx", path="/usr/sbin:/usr/bin") and NCHAN_MODULE.exists())
        debian(missing, "nginx-light", "libnginx-mod-nchan")

    def version(self):
        asked = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}, "]
        return run([*asked, "nginx", "libnginx-mod-nchan"]).strip(", ")

    def command(self, port, home, options):
        text = (HERE / "peers" / "nchan" / "nginx.conf").read_text()
        for word, value in (("PORT", port), ("HOME", home), ("MODULE", NCHAN_MODULE)):
            text = text.replace(word, str(value))
        (home / "nginx.conf").write_text(text)
        return ["/usr/sbin/nginx", "-e", home / "error.log", "-c", home / "nginx.conf"]


class Socketify(Server):
    def install(self):
        debian(lambda: not list(pathlib.Path("/usr/lib").glob("*/libuv.so.1")), "libuv1")
        venv("socketify")

    def version(self):
        return requirements("socketify")

    def command(self, port, home, options):
        return [BUILT / "socketify" / "bin" / "python", HERE / "peers" / "socketify" / "app.py", port]


def requirements(name):
    lines = (HERE / "peers" / name / "requirements.txt").read_text().split()
    return ", ".join(line.replace("==", " ") for line in lines)


SERVERS = {
    server.name: server
    for server in (
        Floor("floor", "floor"),
        Floor("floor-each", "floor, each message by itself", "--each"),
        Floor("floor-deaf", "floor, bare writes", "--deaf"),
        Polecat("polecat", "polecat"),
        Axum("axum", "axum"),
        Axum("axum-tuned", "axum, tuned", "--tuned"),
        Fastapi("fastapi", "FastAPI on uvicorn"),
        Ws("ws", "ws"),
        Nchan("nchan", "nchan"),
        Socketify("socketify", "uWebSockets (socketify)"),
    )
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Running:
    """A server that runs, on the first core. Leaving the block ends it."""

    def __init__(self, server, **options):
        self.server, self.options, self.port = server, options, free_port()
        self.home = BUILT / "home" / server.name

    def __enter__(self):
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        command = self.server.command(self.port, self.home, self.options)
        self.log = open(self.home / "log", "w+")
        # In a session of its own: Ctrl-C ends the run after this measurement, and not the server under it.
        self.process = subprocess.Popen(
            pinned(0, command),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        end = time.monotonic() + START_SECONDS
        while not listens(self.port):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise Unavailable(f"did not start: {self.last_words()}")
            time.sleep(0.02)
        self.settle(end)
        return self

    def settle(self, end):
        """Waits until it opens and closes nothing more: descriptors are counted later."""
        before = None
        while before != (before := self.descriptors()) and time.monotonic() < end:
            time.sleep(0.3)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def last_words(self):
        lines = (self.home / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no output"

    def pids(self):
        """The process and its children: nginx has a worker."""
        pids = [self.process.pid]
        for pid in pids:
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                pids.extend(int(child) for child in task.read_text().split())
        return pids

    def url(self, path, scheme="ws"):
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def sum(self, measure):
        return sum(measure(pathlib.Path(f"/proc/{pid}")) for pid in self.pids())

    def cpu_ns(self):
        return self.sum(lambda proc: sum(int(f.read_text().split()[0]) for f in proc.glob("task/*/schedstat")))

    def resident_bytes(self):
        return self.sum(lambda proc: status(proc, "VmRSS") * 1024)

    def wake_ups(self):
        return self.sum(lambda proc: status(proc, "voluntary_ctxt_switches"))

    def descriptors(self):
        return self.sum(lambda proc: len(os.listdir(proc / "fd")))


def status(proc, name):
    for line in (proc / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
