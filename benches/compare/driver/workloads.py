"""The workloads: what is measured of whom, and what polecat has to reach."""

import contextlib
import dataclasses
import http.client
import json
import signal
import subprocess
import time

from .servers import POLECAT, Running, Unavailable, pinned

PEERS = ["axum", "axum-tuned", "fastapi", "ws", "nchan", "socketify"]
SIZE = 128


@dataclasses.dataclass
class Target:
    """What polecat has to reach."""

    text: str
    # At most this ...
    most: float = 0.0
    # ... of this server's figure, or by itself.
    of: str = ""
    # At least this many times every peer's figure.
    times: float = 0.0


@dataclasses.dataclass
class Workload:
    id: str
    title: str
    servers: list
    # Takes a running server and seconds; returns the figure, and what else is worth a column.
    measure: object
    target: Target
    unit: str = "µs"
    # How a server is started, where it is not the same for all.
    options: dict = dataclasses.field(default_factory=dict)
    note: str = ""
    # Rounds that are enough, where the figure does not depend on what else the machine does.
    rounds_max: int = 100
    # Whether all servers of a round are measured at once, since they rest most of the time;
    # each begins so many seconds after the one before.
    apart_s: float = 0


def load(running, *arguments, seconds, limit=90):
    """Runs `polecat load` on the second core and returns what it says. A loss is a failure."""
    command = [POLECAT, "load", *arguments, "--json"]
    command += ["--for", seconds]
    for pid in running.pids():
        command += ["--pid", pid]
    try:
        # In a session of its own, as the server is.
        done = subprocess.run(
            pinned(1, command), capture_output=True, text=True, timeout=limit, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"not through after {limit} s") from None
    try:
        report = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"the load ended with {done.returncode}: {last[:200]}") from None
    faults = {name: report.get(name) for name in ("lost", "doubled", "disordered") if report.get(name)}
    if faults or done.returncode != 0:
        raise Unavailable(f"status {done.returncode}, {faults or report.get('ended')}")
    if not (report.get("operations") or report.get("handshakes")):
        raise Unavailable("nothing came back")
    return report


def columns(report, figure="cpu_ns_per_operation"):
    if not report["server"].get(figure):
        raise Unavailable("nothing was counted")
    return {
        "figure": report["server"][figure] / 1000,
        "per_second": report.get("operations_per_second"),
        "p99_us": (report.get("latency_us") or {}).get("p99"),
    }


def echo(depth):
    def measure(running, seconds):
        arguments = ["echo", running.url("/api/ws"), "-c", 100, "--depth", depth, "--size", 64]
        return columns(load(running, *arguments, seconds=seconds))

    return measure


def fanout(*more):
    def measure(running, seconds):
        arguments = ["fanout", running.url("/api/ws/bench"), "-c", 1000, "--size", SIZE, *more]
        return columns(load(running, *arguments, seconds=seconds))

    return measure


def saturated(running, seconds):
    more = ["--publishers", 16, "--rate", SATURATION_RATE]
    arguments = ["fanout", running.url("/api/ws/bench"), "-c", 1000, "--size", SIZE, *more]
    report = load(running, *arguments, seconds=seconds)
    return {**columns(report), "figure": report["operations_per_second"]}


def publish(connections, depth):
    def measure(running, seconds):
        arguments = ["publish", running.url(running.server.post_path, "http"), "-c", connections]
        arguments += ["--depth", depth, "--size", SIZE]
        # The floor's answer is always the same, and nchan's does not bear the message.
        if running.server.posts_raw or running.server.name == "floor":
            arguments.append("--status-only")
        return columns(load(running, *arguments, seconds=seconds))

    return measure


def handshakes(running, seconds):
    path = "/api/ws/bench" if running.server.name == "nchan" else "/api/ws"
    report = load(running, "idle", running.url(path), "-n", HANDSHAKES, seconds=1)
    done = columns(report, "cpu_ns_per_handshake")
    return {**done, "per_second": report["handshakes_per_second"], "p99_us": None}


@contextlib.contextmanager
def idle_clients(running, count, seconds_max):
    """That many connections that only listen, all of them open."""
    before = running.descriptors()
    command = [POLECAT, "load", "idle", running.url("/api/ws/bench"), "-n", count, "--rate", 5000]
    command += ["--for", seconds_max, "--sources", "127.0.0.1-127.0.0.8"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    clients = subprocess.Popen(pinned(1, command), **quiet)
    try:
        end = time.monotonic() + 60
        while running.descriptors() < before + count:
            if clients.poll() is not None or time.monotonic() > end:
                raise Unavailable(f"{running.descriptors() - before} of {count} connections came in")
            time.sleep(0.1)
        time.sleep(2)
        yield
        if running.descriptors() < before + count:
            raise Unavailable(f"{before + count - running.descriptors()} of {count} connections were lost")
    finally:
        clients.send_signal(signal.SIGTERM)
        try:
            clients.wait(timeout=20)
        except subprocess.TimeoutExpired:
            clients.kill()
            clients.wait()


def post(running, content):
    """One message by HTTP."""
    body = json.dumps({"channel_id": "bench", "author": "compare", "content": content})
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    connection.request("POST", running.server.post_path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status >= 300:
        raise Unavailable(f"a POST was answered {response.status}")


def resident(count):
    def measure(running, seconds):
        # What the first connections and the first message bring into memory once is not
        # part of what one more connection takes.
        with idle_clients(running, 8, 60):
            post(running, "warm-up")
        time.sleep(1)
        before = running.resident_bytes()
        with idle_clients(running, count, 300):
            after_burst = running.resident_bytes()
            post(running, "x" * SIZE)
            time.sleep(3)
            after_broadcast = running.resident_bytes()
        each = lambda bytes: (bytes - before) / count
        return {"figure": max(each(after_burst), each(after_broadcast)), "after_burst": each(after_burst)}

    return measure


def beating(running, seconds):
    """CPU time per heartbeat, over whole intervals."""
    count, interval = IDLE_CONNECTIONS, running.options["heartbeat"]
    # An even number: we ask for a Pong every second time only.
    intervals = 2 if interval >= 10 else 4
    with idle_clients(running, count, interval * (intervals + 3) + 60):
        time.sleep(interval)
        before = running.cpu_ns()
        time.sleep(interval * intervals)
        spent = running.cpu_ns() - before
    return {"figure": spent / (count * intervals) / 1000}


def quiet(running, seconds):
    """How often it woke up while nothing was due."""
    with idle_clients(running, 1000, 120):
        before = running.wake_ups()
        time.sleep(max(10, seconds))
        return {"figure": running.wake_ups() - before}


IDLE_CONNECTIONS = 10_000
HANDSHAKES = 5000
# Messages per second, far more than any server can deliver one by one to a thousand.
SATURATION_RATE = 2000


def workloads(is_quick):
    heartbeat = 4 if is_quick else 25
    stored = {"polecat-stored": {"stores": True}}
    both = ["floor", "polecat"]
    return [
        Workload("echo-1", "Echo, 100 connections, 64 B, one at a time", [*both, *PEERS], echo(1),
                 Target("at most 1.10 of the floor", 1.10, "floor")),
        Workload("echo-16", "Echo, 100 connections, 64 B, 16 at a time", [*both, *PEERS], echo(16),
                 Target("at most 1.10 of the floor", 1.10, "floor")),
        Workload("fanout-1", "Fan-out to 1,000, 128 B, window 1, not stored", [*both, *PEERS],
                 fanout("--window", 1), Target("at most 1.05 of the floor", 1.05, "floor")),
        Workload("fanout-16", "Fan-out to 1,000, 128 B, window 16, not stored",
                 [*both, "floor-each", *PEERS], fanout("--window", 16),
                 Target("at most 1.05 of the floor", 1.05, "floor"),
                 note="The floor joins what has come together, too; the other one does not."),
        Workload("fanout-many", "Fan-out to 1,000 from 16 publishers, open loop, at saturation",
                 [*both, *PEERS], saturated,
                 Target("at least twice the deliveries per second of every peer", times=2.0), "/s",
                 note=f"{SATURATION_RATE} messages of {SIZE} B per second are offered."),
        Workload("stored-16", "Fan-out to 1,000, 128 B, window 16: stored and not stored",
                 ["polecat", "polecat-stored"], fanout("--window", 16),
                 Target("stored at most 1.10 of not stored", 1.10, "polecat"), options=stored),
        Workload("post-1", "POST, keep-alive, one at a time, stored and committed", [*both, *PEERS],
                 publish(1, 1), Target("at most 2.5 of the floor's bare answer", 2.5, "floor"),
                 options={"polecat": {"stores": True}, "fastapi": {"stores": True}},
                 note="Only polecat and FastAPI store."),
        Workload("post-64", "POST from 64 connections at once, stored and committed", [*both, *PEERS],
                 publish(64, 1), Target("at most 1.5 of the floor's bare answer", 1.5, "floor"),
                 options={"polecat": {"stores": True}, "fastapi": {"stores": True}},
                 note="Only polecat and FastAPI store."),
        Workload("post-deep", "POST, pipelined 16 deep, stored and committed", [*both, *PEERS],
                 publish(1, 16), Target("at most 10 µs: 100,000 messages per second of CPU", 10.0),
                 options={"polecat": {"stores": True}, "fastapi": {"stores": True}},
                 note="Only polecat and FastAPI store."),
        Workload("handshakes", f"Handshakes, {HANDSHAKES:,} as fast as they are answered", [*both, *PEERS],
                 handshakes, Target("at most 1.05 of the floor", 1.05, "floor")),
        Workload("idle-10000", "Resident memory per idle connection, 10,000", [*both, *PEERS],
                 resident(10_000), Target("at most 100 bytes", 100.0), "B", rounds_max=3),
        Workload("idle-19000", "Resident memory per idle connection, 19,000", [*both, *PEERS],
                 resident(19_000), Target("at most 100 bytes", 100.0), "B", rounds_max=3),
        Workload("heartbeat", f"CPU time per heartbeat, {IDLE_CONNECTIONS:,} idle connections, {heartbeat} s",
                 ["floor-deaf", "floor", "polecat"], beating,
                 Target("at most 1.5 of one bare write", 1.5, "floor-deaf"),
                 options={name: {"heartbeat": heartbeat} for name in ("floor", "floor-deaf", "polecat")},
                 note="The first floor does not read the pongs.", apart_s=heartbeat / 4),
        Workload("quiet", "Wake-ups while nothing is due, 1,000 idle connections", ["polecat"], quiet,
                 Target("none", 0.0), "wake-ups", options={"polecat": {"heartbeat": 3600}}),
    ]


def start(server, workload, name):
    return Running(server, **workload.options.get(name, {}))
