// What the scripts have in common, in Node and in a page: publishers, what followers have seen, checks.

export const PATIENCE_MS = 60_000; // until what must happen counts as missing
export const MESSAGE_BYTES_MAX = 1024 * 1024; // the server's default
export const FRAME_BYTES_MAX = MESSAGE_BYTES_MAX + 1024; // PROTOCOL 4.5
export const ROUNDS = 150; // messages of each publisher while the server is killed
export const KILLED_AFTER = [50, 150, 250]; // acknowledged messages

/** Where a server is. */
export class Place {
  constructor(port) {
    this.port = port;
  }

  http(path) {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  ws(path) {
    return `ws://127.0.0.1:${this.port}${path}`;
  }
}

/** What one follower has seen, and the id to resume from. */
export class Reader {
  constructor(name, eventId) {
    Object.assign(this, { name, eventId, epoch: "", seen: [], connects: 0, isDone: false });
  }

  take(text) {
    const message = JSON.parse(text);
    this.eventId = message.event_id ?? this.eventId;
    if (message.type === "hello") this.epoch = message.payload.epoch;
    check(message.type !== "gap", `${this.name} was sent ${text}`);
    if (message.type !== "message" && message.type !== "note") return;
    const { content } = message.data ?? message.payload;
    if (content === "end") this.isDone = true;
    else this.seen.push([Number(message.event_id.split("-")[1]), content]);
  }

  /** Every message of every publisher once, in its order, whatever was killed meanwhile. */
  check(publishers) {
    const { name, seen, connects } = this;
    check(seen.every(([id], place) => place === 0 || id > seen[place - 1][0]), `${name}: the ids do not rise`);
    for (const publisher of publishers) {
      const own = seen.map(([, text]) => text).filter((text) => text.startsWith(`${publisher} `));
      equal(own, Array.from({ length: ROUNDS }, (_, number) => `${publisher} ${number}`), `${name}: ${publisher}`);
    }
    equal(seen.length, ROUNDS * publishers.length, `${name}: messages`);
    check(connects > KILLED_AFTER.length, `${name} connected ${connects} times only`);
  }
}

/** A counter that others wait for. */
export class Count {
  value = 0;
  waiting = [];

  add() {
    this.value += 1;
    this.waiting = this.waiting.filter(({ most, done }) => this.value < most || done());
  }

  reaches(most) {
    if (this.value >= most) return Promise.resolve();
    return new Promise((done) => this.waiting.push({ most, done }));
  }
}

export async function publish(server, path, body, headers = {}) {
  const answer = await fetch(server.http(path), {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", ...headers },
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  check(answer.status === 200, `${path} is answered ${answer.status}`);
  return answer.json();
}

/** A POST until it is answered. */
export async function insist(server, path, body, key) {
  for (;;) {
    try {
      return await publish(server, path, body, { "Idempotency-Key": key });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // what `fetch` throws where nobody answers
      await pause(20);
    }
  }
}

export async function postAll(server, acknowledged) {
  for (let number = 0; number < ROUNDS; number++) {
    const content = `rest ${number}`;
    await insist(server, "/api/messages", { channel_id: "room", author: "rest", content }, `rest-${number}`);
    await insist(server, "/api/events", { type: "note", payload: { content: `event ${number}` } }, `event-${number}`);
    acknowledged.add();
  }
}

/** Connects until `attend`, which is handed each socket, has come to its end. */
async function persist(open, attend) {
  for (let isOver = false; !isOver; ) {
    const socket = open();
    socket.onerror = () => {}; // "close" follows
    isOver = await new Promise((resolve, reject) => {
      socket.onclose = () => resolve(false);
      attend(socket, () => resolve(true), reject);
    });
    socket.close();
    await pause(20);
  }
}

/** Reads from sockets that `open` opens, one after the other, until all has come. */
export function follow(reader, open) {
  return persist(open, (socket, end, fail) => {
    socket.onopen = () => (reader.connects += 1);
    socket.onmessage = ({ data }) => {
      try {
        reader.take(data);
        if (reader.isDone) end();
      } catch (error) {
        fail(error);
      }
    };
  });
}

/** Where a follower goes on by the query. */
export const after = (reader, url) => `${url}?${new URLSearchParams({ last_event_id: reader.eventId, epoch: reader.epoch })}`;

/** Publishes by WebSocket: each message until it is acknowledged. */
export function sendAll(open, acknowledged) {
  let number = 0;
  return persist(open, (socket, end) => {
    const send = () =>
      socket.send(JSON.stringify({ type: "message", id: number, idempotency_key: `ws-${number}`, content: `ws ${number}` }));
    socket.onopen = send;
    socket.onmessage = ({ data }) => {
      const { type, payload } = JSON.parse(data);
      if (type !== "ack" || payload.id !== number) return;
      number += 1;
      acknowledged.add();
      if (number === ROUNDS) end();
      else send();
    };
  });
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

export function within(promise, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`FAILED: ${what} does not come`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function check(condition, message) {
  if (!condition) throw new Error(`FAILED: ${message}`);
}

export function equal(actual, expected, what) {
  const [is, should] = [JSON.stringify(actual), JSON.stringify(expected)];
  check(is === should, `${what}: ${is?.slice(0, 500)} is not ${should.slice(0, 500)}`);
}

/** A `message` of exactly so many bytes. */
export function sized(size, keys) {
  const bare = JSON.stringify({ type: "message", ...keys, content: "" });
  return JSON.stringify({ type: "message", ...keys, content: "x".repeat(size - bare.length) });
}
