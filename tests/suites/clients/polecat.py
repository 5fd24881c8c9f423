"""What the Python clients have in common: the server as a process that can be killed, and checks."""

import contextlib, json, os, pathlib, re, subprocess, sys, tempfile, time

PATIENCE = 60  # seconds until what must happen counts as missing
MESSAGE_BYTES_MAX = 1024 * 1024  # the server's default
FRAME_BYTES_MAX = MESSAGE_BYTES_MAX + 1024  # PROTOCOL 4.5
ROUNDS = 150  # messages of each publisher while the server is killed
KILLED_AFTER = (50, 150, 250)  # acknowledged messages


class Server(contextlib.AbstractContextManager):
    """A server on one database, and on one port from its first start on."""

    def __init__(self, *flags):
        self.flags = flags
        self.folder = tempfile.TemporaryDirectory(prefix="polecat-")
        self.port = 0
        self.start()

    def start(self):
        deadline = time.monotonic() + PATIENCE
        # A client that looks for the server may hold the port for a moment.
        while not self.listens():
            check(time.monotonic() < deadline, "the server does not start")

    def listens(self):
        command = [sys.argv[1], "serve", "--listen", f"127.0.0.1:{self.port}", "--log-level", "off"]
        command += ["--db", self.database, *self.flags]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("POLECAT_")}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        line = self.process.stderr.readline()
        place = re.search(r"listening on http://127\.0\.0\.1:(\d+)", line)
        if place:
            self.port = int(place[1])
            return True
        self.process.wait(PATIENCE)
        check("address" in line.lower() or "port" in line.lower(), f"the server does not start: {line}")
        return False

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def ask_to_stop(self):
        self.process.terminate()

    def stop(self):
        self.ask_to_stop()
        self.process.wait(PATIENCE)

    @property
    def database(self):
        return pathlib.Path(self.folder.name, "polecat.db")

    def back_up(self):
        copy = pathlib.Path(self.folder.name, "copy.db")
        subprocess.run([sys.argv[1], "backup", copy, "--db", self.database], check=True, capture_output=True)
        return copy

    def __exit__(self, *_):
        self.kill()
        self.folder.cleanup()

    def http(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def ws(self, path):
        return f"ws://127.0.0.1:{self.port}{path}"


class Reader:
    """What one follower has seen, and the id to resume from."""

    def __init__(self, name, first):
        self.name, self.event_id, self.epoch = name, first, ""
        self.seen, self.connects, self.is_done = [], 0, False

    def take(self, text):
        message = json.loads(text)
        self.event_id = message.get("event_id", self.event_id)
        if message["type"] == "hello":
            self.epoch = message["payload"]["epoch"]
        check(message["type"] != "gap", f"{self.name} was sent {text}")
        body = message["data"] if message["type"] == "message" else message["payload"]
        if message["type"] in ("message", "note"):
            if body["content"] == "end":
                self.is_done = True
            else:
                self.seen.append((int(message["event_id"].split("-")[1]), body["content"]))

    def check(self, publishers):
        """Every message of every publisher once, in its order, whatever was killed meanwhile."""
        numbers = [number for number, _ in self.seen]
        check(numbers == sorted(set(numbers)), f"{self.name}: the ids do not rise")
        for publisher in publishers:
            own = [text for _, text in self.seen if text.startswith(publisher + " ")]
            check(own == [f"{publisher} {number}" for number in range(ROUNDS)], f"{self.name}: {publisher}: {own}")
        check(len(self.seen) == ROUNDS * len(publishers), f"{self.name}: there is more than was published")
        check(self.connects > len(KILLED_AFTER), f"{self.name} connected {self.connects} times only")


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def equal(actual, expected, what):
    check(actual == expected, f"{what}: {str(actual)[:500]} is not {str(expected)[:500]}")


def sized(size, **keys):
    """A `message` of exactly so many bytes."""
    bare = json.dumps({"type": "message", **keys, "content": ""})
    return json.dumps({"type": "message", **keys, "content": "x" * (size - len(bare))})
