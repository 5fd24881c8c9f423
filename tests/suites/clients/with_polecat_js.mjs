// docs/polecat.js in Node.js, with the WebSocket of the package `ws`: with_polecat_js.mjs BINARY PACKAGES

import { once } from "node:events";
import { createServer, connect as dial } from "node:net";
import { createRequire } from "node:module";
import { resolve } from "node:path";

import { connect } from "../../../docs/polecat.js";
import { check, Count, equal, insist, KILLED_AFTER, postAll, publish, Reader, ROUNDS, sized, within } from "./polecat.mjs";
import { run, Server } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const { WebSocket } = createRequire(`${resolve(packages)}/`)("ws");

const open = (server, path, options) => connect(server.ws(path), { WebSocket, ...options });

/** The next of that type for which `is` holds. */
function next(connection, type, is = () => true) {
  const came = new Promise((found) => {
    const end = connection.on(type, (detail) => is(detail) && (end(), found(detail)));
  });
  return within(came, type);
}

const state = (connection, name) => (connection.state === name ? undefined : next(connection, "state", (now) => now.state === name));
const contents = async (server) => {
  const { messages } = await (await fetch(server.http("/api/messages?limit=1000"))).json();
  return messages.map(({ content }) => content);
};

/** The code of the error that a promise is rejected with. */
const refusal = (promise) => within(promise.then(() => "none", ({ code }) => code), "a refusal");

async function typed(server) {
  const [channel, events] = [open(server, "/api/ws/caf%C3%A9"), open(server, "/ws")];
  await Promise.all([state(channel, "live"), state(events, "live")]);
  equal([channel.server.channel, events.server.channel], ["café", null], "what hello says");
  const message = next(channel, "message");
  const eventId = await channel.send({ author: "ann", content: "hello" });
  const { id, author, content } = await message;
  equal([eventId, author, content], [`message-${String(id).padStart(5, "0")}`, "ann", "hello"], "the message");
  // Types that the server uses itself are told from those by whom they come from.
  for (const type of ["scan", "hello", "reconnect", "state", "gap"]) {
    const [named, any] = [next(events, `event:${type}`), next(events, "event")];
    const { event } = await publish(server, "/api/events", { type, payload: { n: 1 } });
    equal([await named, await any], [event, event], "the event");
  }
  equal(events.lastEventId, "event-00005", "where to resume");
  await next(channel, "heartbeat");
  channel.close();
  events.close();
}

/** Whatever an event is called and whatever its correlation id is, if it has one it was published. */
async function presence(server) {
  let socket;
  class Fake {
    constructor() {
      socket = this;
      this.closes = 0;
    }
    close() {
      this.closes += 1;
    }
  }
  const say = (message) => socket.onmessage({ data: JSON.stringify(message) });
  const envelope = (type, number, cause, payload = {}) => ({ type, payload, correlation_id: cause, timestamp: "", event_id: `event-0000${number}` });
  const events = connect("ws://127.0.0.1:1/ws", { WebSocket: Fake });
  const seen = [];
  const told = [];
  events.on("event", ({ type, correlation_id: cause }) => seen.push([type, cause]));
  for (const type of ["hello", "reconnect", "gap", "live", "error", "ack", "news"]) events.on(type, () => told.push(type));
  say(envelope("hello", 0, null, { epoch: "e", heartbeat_interval_ms: 1000, message_bytes_max: 10 }));
  say(envelope("live", 0, null));
  const types = ["hello", "reconnect", "gap", "live", "error", "ack"];
  types.forEach((type, place) => say(envelope(type, place + 1, "", { after_ms: 1e9, epoch: "other" })));
  say(envelope("news", 6, null));
  equal(seen, types.map((type) => [type, ""]), "the events");
  equal(told, ["hello", "live", "news"], "the server's words");
  equal([events.state, events.epoch, events.lastEventId, socket.closes], ["live", "e", "event-00006", 0], "the connection");
  events.close();
  const channel = connect("ws://127.0.0.1:1/api/ws/a", { WebSocket: Fake });
  const messages = [];
  channel.on("message", (data) => messages.push(data));
  say(envelope("hello", 0, null, { epoch: "e", heartbeat_interval_ms: 1000, message_bytes_max: 10 }));
  for (const [place, data] of [null, 0, "", {}].entries()) say({ type: "message", data, event_id: `message-0000${place + 1}` });
  equal(messages, [null, 0, "", {}], "what has data is a message");
  channel.close();
  // The server's own: an empty one is made up.
  const real = open(server, "/ws");
  await state(real, "live");
  for (const type of types) {
    const event = next(real, `event:${type}`);
    await publish(server, "/api/events", { type, correlation_id: "" });
    check((await event).correlation_id !== "", "the correlation id");
  }
  equal(real.state, "live", "the connection");
  real.close();
}

async function refusals(server) {
  const channel = open(server, "/api/ws/refusals");
  equal(await refusal(channel.send({ content: 5 })), "wrong_type", "content that is no text");
  equal(await refusal(channel.send(JSON.parse(sized(channel.server.message_bytes_max, {})))), "too_long", "a long message");
  channel.close();
  equal(await refusal(channel.send({ content: "late" })), "closed", "a closed connection");
  const unsent = open(server, "/api/ws/refusals");
  const sending = refusal(unsent.send({ content: "never" }));
  unsent.close();
  equal(await sending, "closed", "what was not sent");
  const token = open(server, "/ws?subscribe_token=x");
  equal((await next(token, "state", (now) => now.state === "closed")).code, 4400, "a bad token");
  check(!(await contents(server)).includes("never"), "what was not sent is stored");
}

/** What is between a client and a server, and can break. */
async function proxyTo(server) {
  const proxy = { isDeaf: false };
  const listener = createServer((client) => {
    const upstream = dial(server.port, "127.0.0.1");
    proxy.cut = () => [client, upstream].forEach((socket) => socket.destroy());
    client.on("data", (bytes) => upstream.write(bytes));
    upstream.on("data", (bytes) => proxy.isDeaf || client.write(bytes));
    for (const socket of [client, upstream]) socket.on("error", () => {}).on("close", proxy.cut);
  });
  await once(listener.listen(0, "127.0.0.1").unref(), "listening");
  return Object.assign(proxy, { port: listener.address().port });
}

/** An acknowledgement that gets lost: the message is sent again, and stored once, whatever says that it has no key. */
async function once_only(server) {
  const proxy = await proxyTo(server);
  const stored = { lastEventId: null, epoch: null }; // as a page finds them that has stored none yet
  const channel = connect(`ws://127.0.0.1:${proxy.port}/api/ws/once`, { WebSocket, ...stored });
  for (const keyed of [{}, { idempotency_key: undefined }, { idempotency_key: null }, { idempotency_key: "k" }]) {
    await state(channel, "live");
    const text = `once ${JSON.stringify(keyed)} ${"idempotency_key" in keyed}`;
    proxy.isDeaf = true;
    const sending = channel.send({ content: text, ...keyed });
    while (!(await contents(server)).includes(text));
    proxy.isDeaf = false;
    const again = next(channel, "message");
    proxy.cut();
    const eventId = await within(sending, "the acknowledgement");
    const { id, content } = await again;
    equal([content, Number(eventId.split("-")[1])], [text, id], "what was sent again");
    equal((await contents(server)).filter((stored) => stored === text).length, 1, `copies of ${text}`);
  }
  channel.close();
}

/** What is older than the server remembers is not sent again, whichever clock says so: one stands still while the
 * machine sleeps, the other may be set back. */
async function too_old(server) {
  const real = { date: Date.now, performance: performance.now };
  const cases = [
    [{ date: 850e3 }, "unknown"],
    [{ performance: 850e3, date: -1e9 }, "unknown"],
    [{ date: 700e3 }, "none"],
  ];
  for (const [jump, code] of cases) {
    const proxy = await proxyTo(server);
    const channel = connect(`ws://127.0.0.1:${proxy.port}/api/ws/old`, { WebSocket });
    await state(channel, "live");
    equal(channel.server.idempotency_window_ms, 1_000_000, "what hello says");
    proxy.isDeaf = true;
    const content = JSON.stringify(jump);
    const sending = refusal(channel.send({ content }));
    while (!(await contents(server)).includes(content));
    proxy.isDeaf = false;
    Date.now = () => real.date() + (jump.date ?? 0);
    performance.now = () => real.performance.call(performance) + (jump.performance ?? 0);
    proxy.cut();
    equal(await sending, code, "what becomes of it");
    [Date.now, performance.now] = [real.date, real.performance];
    equal((await contents(server)).filter((text) => text === content).length, 1, "copies");
    channel.close();
  }
}

/** Of two servers, one after the other, the one that remembers less counts; of one that says nothing, nothing. */
async function windows() {
  const real = [performance.now, Date.now];
  const cases = [
    [1000, 500, 390, true],
    [1000, 500, 410, false],
    [500, 1000, 410, false],
    [1000, undefined, 0, false],
  ];
  for (const [first, second, afterMs, isSentAgain] of cases) {
    let socket;
    const sent = [];
    class Fake {
      constructor() {
        socket = this;
      }
      send(text) {
        sent.push(text);
      }
      close() {}
    }
    const hello = (windowMs) => {
      const payload = { epoch: "e", heartbeat_interval_ms: 1e6, message_bytes_max: 1000, idempotency_window_ms: windowMs };
      socket.onmessage({ data: JSON.stringify({ type: "hello", payload, correlation_id: null, event_id: "message-00000" }) });
    };
    let now = 1000;
    performance.now = Date.now = () => now;
    const channel = connect("ws://127.0.0.1:1/api/ws/a", { WebSocket: Fake });
    hello(first);
    const sending = refusal(channel.send({ content: "x" }));
    const connecting = next(channel, "state", ({ state }) => state === "connecting");
    socket.onclose({ code: 1006, reason: "" });
    await connecting;
    now += afterMs;
    hello(second);
    equal(sent.length, isSentAgain ? 2 : 1, `times that it was sent, of ${first} and ${second} after ${afterMs}`);
    // That it is not stored now does not say that it was not before.
    const refused = { id: JSON.parse(sent[0]).id, code: "store_unavailable", message: "" };
    socket.onmessage?.({ data: JSON.stringify({ type: "error", payload: refused, correlation_id: null, event_id: "message-00000" }) });
    channel.close();
    equal(await sending, "unknown", "what becomes of it");
    [performance.now, Date.now] = real;
  }
}

/** A server that says nothing any more, on a connection that is still there. */
async function silence(server) {
  const channel = open(server, "/api/ws/silence");
  await state(channel, "live");
  server.process.kill("SIGSTOP");
  const lost = await next(channel, "state", (now) => now.state === "waiting");
  equal(lost.reason, "the server was silent for too long", "why it was left");
  server.process.kill("SIGCONT");
  await state(channel, "live");
  channel.close();
}

/** It comes again when it was told to, and not before. */
async function reconnects(server) {
  const channel = open(server, "/api/ws/reconnects", { lastEventId: "message-00000" });
  await state(channel, "live");
  const told = next(channel, "reconnect");
  const waiting = next(channel, "state", (now) => now.state === "waiting");
  // From before it is told on, so that a process that is slow to look at the clock does not seem to be early.
  const asked = performance.now();
  server.askToStop();
  const { after_ms: afterMs } = (await told).payload;
  const { code, afterMs: waits } = await waiting;
  equal([code, waits], [1001, afterMs], "the close, and what is waited");
  await within(server.ended, "the end of the server");
  await server.start();
  const sending = channel.send({ content: "meanwhile" });
  await state(channel, "connecting");
  check(performance.now() - asked >= afterMs - 5, "it came too early");
  await within(sending, "the acknowledgement");
  channel.close();
}

/** Another database on the same port: all of it comes, and a gap is told. */
async function gaps(server) {
  const follower = open(server, "/api/ws/gaps", { lastEventId: "message-00000" });
  const seen = [];
  follower.on("message", ({ content }) => seen.push(content));
  // An acknowledgement may come before the message, which would be lost with the database.
  const sees = async (count) => {
    while (seen.length < count) await next(follower, "message");
  };
  for (const content of ["a", "b", "c"]) await follower.send({ content });
  await sees(3);
  const { epoch, lastEventId } = follower;
  const gap = next(follower, "gap");
  await server.kill();
  const other = await Object.assign(new Server(binary), { port: server.port }).start();
  await gap;
  check(follower.epoch !== epoch, "the epoch is the same");
  for (const content of ["d", "e"]) await follower.send({ content });
  await sees(5);
  equal(seen, ["a", "b", "c", "d", "e"], "what was seen");
  await other.kill();
  await server.start();
  // The first one again, by an id that was never given out there: what was there is there again.
  const again = open(server, "/api/ws/gaps", { lastEventId: "message-09999", epoch });
  const ahead = [];
  again.on("message", ({ content }) => ahead.push(content));
  await state(again, "live");
  equal(ahead, [], "what is not above the gap's newest");
  await again.send({ content: "f" });
  while (ahead.length === 0) await next(again, "message").catch(() => {});
  equal(ahead, ["f"], "what follows");
  for (const connection of [follower, again]) connection.close();
  await other.remove();
  check(lastEventId !== "", "it knows no id");
}

/** Sockets that say what a part wants, and on what URLs they were opened. */
function script() {
  const sockets = [];
  class Scripted {
    constructor(url) {
      sockets.push(this);
      this.query = new URL(url).search;
    }
    send() {}
    close() {}
  }
  const said = (type, number, payload = {}) => ({ type, payload, correlation_id: null, timestamp: "", event_id: `message-${number}` });
  const say = (...messages) => messages.forEach((message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) }));
  const lose = (connection) => {
    sockets.at(-1).onclose({ code: 1006, reason: "" });
    return state(connection, "connecting");
  };
  const hello = (epoch, number) => said("hello", number, { epoch, heartbeat_interval_ms: 25_000, message_bytes_max: 1000 });
  return { Scripted, sockets, said, say, lose, hello };
}

/** A database that went back: what is above `agreed` is handed on anew, a new epoch alone changes nothing, and a gap that
 * a break swallows is asked for again. */
async function terms() {
  const { Scripted, sockets, said, say, lose, hello } = script();
  const channel = connect("ws://127.0.0.1/api/ws/c", { WebSocket: Scripted, lastEventId: "message-00015", epoch: "old" });
  const seen = [];
  channel.on("message", (data) => seen.push(data));
  const message = (number) => ({ type: "message", data: number, event_id: `message-${number}` });
  say(hello("new", "00010"));
  await lose(channel);
  equal(sockets.at(-1).query, "?last_event_id=message-00015&epoch=old", "what is asked for again");
  const gap = said("gap", "00010", { requested: "message-00015", agreed: "message-00010", oldest: "message-00001", newest: "message-00012" });
  say(hello("new", "00010"), gap, message(10), message(11), message(12), said("live", "00012"));
  equal([seen, channel.lastEventId, channel.epoch], [[11, 12], "message-00012", "new"], "after a gap");
  await lose(channel);
  say(hello("newer", "00012"), said("resumed", "00012", { from: "message-00012", count: 1 }), message(12), message(13));
  equal([seen, channel.lastEventId, channel.epoch], [[11, 12, 13], "message-13", "newer"], "after a restart");
  channel.close();
}

/** Two publishers and two followers over kills: each message once, in its order. */
async function resume(server) {
  const acknowledged = new Count();
  const readers = [new Reader("channel", "message-00000"), new Reader("events", "event-00000")];
  const followers = ["/api/ws/room", "/ws"].map((path, place) => open(server, path, { lastEventId: readers[place].eventId }));
  const follows = followers.map((connection, place) => {
    const reader = readers[place];
    connection.on("hello", () => (reader.connects += 1));
    connection.on("gap", () => check(false, `${reader.name}: a gap`));
    const end = new Promise((done) => {
      const take = (envelope) => (reader.take(JSON.stringify(envelope)), reader.isDone && done());
      connection.on("message", (data) => take({ type: "message", data, event_id: `message-${data.id}` }));
      connection.on("event", take);
    });
    return end.then(() => connection.close());
  });
  const publisher = open(server, "/api/ws/room");
  const sendAll = async () => {
    for (let number = 0; number < ROUNDS; number++) {
      await within(publisher.send({ author: "ws", content: `ws ${number}` }), "an acknowledgement");
      acknowledged.add();
    }
  };
  const killNowAndThen = async () => {
    for (const most of KILLED_AFTER) {
      await acknowledged.reaches(most);
      await Promise.all(followers.map((follower) => state(follower, "live")));
      await server.kill();
      await server.start();
    }
  };
  await Promise.all([sendAll(), postAll(server, acknowledged), killNowAndThen()]);
  publisher.close();
  await insist(server, "/api/messages", { channel_id: "room", author: "", content: "end" }, "end");
  await insist(server, "/api/events", { type: "note", payload: { content: "end" } }, "end");
  await within(Promise.all(follows), "the end of all that was published");
  readers.forEach((reader, place) => reader.check([["rest", "ws"], ["event"]][place]));
}

// Nobody is to be taken for silent because the machine is busy, but for the one that is silent.
await run(binary, ["--heartbeat-interval", "2"], [typed, presence, refusals, once_only, reconnects]);
await run(binary, ["--heartbeat-interval", "0.5"], [silence]);
await run(binary, [], [gaps, terms]);
await run(binary, ["--idempotency-window", "1000"], [too_old, windows]);
await run(binary, [], [resume]);
