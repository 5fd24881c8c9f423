// polecat by a browser's own `WebSocket` and `fetch`. with_chromium.mjs serves this and calls what is in `window.parts`.

import { MESSAGE_BYTES_MAX, Place, Reader } from "./polecat.mjs";
import { after, check, equal, follow, insist, postAll, publish, sendAll, sized, within } from "./polecat.mjs";

const event = (target, type, what) => within(new Promise((resolve) => (target["on" + type] = resolve)), what);

/** An open socket, and its messages in the order in which they come. */
async function connect(url, protocols) {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = "arraybuffer";
  const messages = [];
  let wake = () => {};
  socket.onmessage = ({ data }) => wake(messages.push(data));
  socket.next = async () => {
    while (messages.length === 0) await within(new Promise((resolve) => (wake = resolve)), "a message");
    return messages.shift();
  };
  socket.receive = async (type) => {
    for (;;) {
      const message = JSON.parse(await socket.next());
      if (type === undefined || message.type === type) return message;
    }
  };
  socket.closed = new Promise((resolve) => (socket.onclose = ({ code, reason }) => resolve([code, reason])));
  await event(socket, "open", "the handshake");
  return socket;
}

async function broadcasts(server) {
  const url = server.ws("/api/ws/caf%C3%A9");
  const sockets = [await connect(url), await connect(url)];
  let last;
  for (let number = 0; number < 100; number++) {
    const content = String(number);
    if (number % 2) sockets[0].send(JSON.stringify({ type: "message", author: "one", content }));
    else await publish(server, "/api/messages", { channel_id: "café", author: "two", content });
    for (const socket of sockets) {
      last = await socket.receive();
      equal(last.data.content, content, "the broadcast");
    }
  }
  const late = await connect(`${url}?last_event_id=message-${last.data.id - 50}`);
  for (let number = 50; number < 100; number++) equal((await late.receive()).data.content, String(number), "the replay");
  const events = await connect(server.ws("/ws"));
  const { event } = await publish(server, "/api/events", { type: "scan", payload: { n: 1 } }, { "X-Correlation-ID": "r-1" });
  equal(await events.receive(), event, "the event");
  equal(event.correlation_id, "r-1", "its correlation id");
  // Who had not answered the Pings would have been closed before the third of these.
  for (let beat = 0; beat < 3; beat++) equal((await events.receive("heartbeat")).event_id, event.event_id, "a heartbeat's id");
  for (const socket of [...sockets, late, events]) socket.close();
}

async function subprotocol(server) {
  const socket = await connect(server.ws("/api/ws/v1"), ["other", "polecat.v1"]);
  equal(socket.protocol, "polecat.v1", "the subprotocol");
  const hello = await socket.receive();
  equal([hello.type, hello.payload.channel], ["hello", "v1"], "the first message");
  equal((await socket.receive()).type, "live", "the second message");
  for (let time = 0; time < 2; time++) socket.send('{"type":"message","id":"a","idempotency_key":"k","content":"once"}');
  equal((await socket.receive("ack")).payload, (await socket.receive("ack")).payload, "the ack of the same key");
  socket.send('{"type":"message","id":7,"content":7}');
  const { payload } = await socket.receive("error");
  equal([payload.code, payload.id], ["wrong_type", 7], "the error");
  socket.send('{"type":"ping"}');
  equal(await socket.receive("pong"), { type: "pong" }, "the answer to a ping");
  socket.close();
}

async function sizes(server) {
  const echo = await connect(server.ws("/api/ws"));
  const bytes = Uint8Array.from({ length: MESSAGE_BYTES_MAX }, (_, place) => place % 251);
  echo.send(bytes);
  const back = new Uint8Array(await echo.next());
  check(back.length === bytes.length && back.every((byte, place) => byte === bytes[place]), "the echo differs");
  echo.close();
  const socket = await connect(server.ws("/api/ws/large"));
  socket.send(sized(MESSAGE_BYTES_MAX, { author: "a" }));
  check((await socket.receive()).data.content.length > MESSAGE_BYTES_MAX - 100, "a large message does not come back");
  socket.send(sized(MESSAGE_BYTES_MAX + 1, { author: "a" }));
  equal(await within(socket.closed, "the Close"), [1009, "message is too long"], "the close of a message too large");
}

/** What needs a preflight, and what a page may see of an answer. */
async function cors(server) {
  const post = (body) =>
    fetch(server.http("/api/messages"), {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": "cors", "X-Correlation-ID": "page" },
      body: JSON.stringify(body),
      credentials: "include",
    });
  const body = { channel_id: "cors", author: "page", content: "hello" };
  const first = await (await post(body)).json();
  const again = await post(body);
  equal(again.headers.get("Idempotency-Replayed"), "true", "the mark of a replay");
  equal(again.headers.get("Idempotency-Window"), "300", "for how long a key is remembered");
  equal(again.headers.get("X-Correlation-ID"), "page", "the correlation id");
  equal(await again.json(), first, "the replay of a POST");
  const wrong = await fetch(server.http("/api/messages"), { method: "POST", body: new Blob(["{}"], { type: "application/json" }) });
  equal([wrong.status, (await wrong.json()).detail.length], [422, 3], "the answer to a wrong body");
  const listed = await (await fetch(server.http("/api/messages?channel_id=cors"))).json();
  equal(listed.messages, [first.message], "the list");
  equal((await fetch(server.http("/api/nothing"))).status, 404, "the answer to a wrong path");
}

async function closes(server) {
  const token = await connect(server.ws("/ws?subscribe_token=x"));
  equal(await within(token.closed, "the Close"), [4400, "Invalid subscribe_token format"], "the close of a bad token");
  const socket = await connect(server.ws("/api/ws/closes"));
  socket.close(3456, "bye");
  equal(await within(socket.closed, "the Close"), [3456, ""], "the answer to a Close");
  const last = await connect(server.ws("/api/ws/closes"), "polecat.v1");
  await last.receive("live");
  window.tell("stop");
  check((await last.receive("reconnect")).payload.after_ms >= 500, "it is not told when to reconnect");
  equal(await within(last.closed, "the Close"), [1001, "going away"], "the close of a shutdown");
}

async function resume(server) {
  const readers = [new Reader("base", "message-00000"), new Reader("polecat.v1", "message-00000"), new Reader("events", "event-00000")];
  const urls = ["/api/ws/room", "/api/ws/room", "/ws"].map((path) => server.ws(path));
  const protocols = [[], "polecat.v1", []];
  const follows = readers.map((reader, place) => follow(reader, () => new WebSocket(after(reader, urls[place]), protocols[place])));
  const acknowledged = { add: () => window.tell("acknowledged") };
  const publisher = () => new WebSocket(server.ws("/api/ws/room"), "polecat.v1");
  await Promise.all([postAll(server, acknowledged), sendAll(publisher, acknowledged)]);
  // The last kill came long before the last message; until the server is there again, this insists.
  await insist(server, "/api/messages", { channel_id: "room", author: "", content: "end" }, "end");
  await insist(server, "/api/events", { type: "note", payload: { content: "end" } }, "end");
  await within(Promise.all(follows), "the end of all that was published");
  readers.forEach((reader, place) => reader.check([["rest", "ws"], ["rest", "ws"], ["event"]][place]));
}

/** From a foreign page nothing opens, nothing is stored, and nothing is read. */
async function foreign(server) {
  const socket = new WebSocket(server.ws("/api/ws/foreign"), "polecat.v1");
  socket.onopen = () => (socket.wasOpen = true);
  equal((await event(socket, "close", "the end of a foreign handshake")).code, 1006, "the end of a foreign handshake");
  check(!socket.wasOpen, "a foreign page can open a WebSocket");
  const body = JSON.stringify({ channel_id: "foreign", author: "page", content: "never" });
  const attempts = [
    ["a GET", {}],
    ["a POST with a preflight", { method: "POST", headers: { "Content-Type": "application/json" }, body }],
    ["a POST without one", { method: "POST", body: new Blob([body]), mode: "no-cors" }],
  ];
  for (const [what, options] of attempts) {
    const answer = await fetch(server.http("/api/messages"), options).catch((error) => error);
    check(answer instanceof TypeError || answer.type === "opaque", `a foreign page can read the answer to ${what}`);
  }
}

window.parts = Object.fromEntries(
  [broadcasts, subprotocol, sizes, cors, closes, resume, foreign].map((part) => [part.name, (port) => part(new Place(port))]),
);
