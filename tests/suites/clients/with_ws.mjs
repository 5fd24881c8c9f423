// polecat by the package `ws`, and `fetch`: with_ws.mjs BINARY PACKAGES

import { once } from "node:events";
import { createRequire } from "node:module";
import { resolve } from "node:path";

import { Count, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, Reader } from "./polecat.mjs";
import { after, check, equal, follow, insist, postAll, publish, sendAll, sized, within } from "./polecat.mjs";
import { killNowAndThen, run } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const { WebSocket } = createRequire(`${resolve(packages)}/`)("ws");

/** An open socket, and its messages in the order in which they come. */
async function connect(url, protocols, options) {
  const socket = new WebSocket(url, protocols, options);
  const messages = [];
  let wake = () => {};
  socket.on("message", (data, isBinary) => wake(messages.push(isBinary ? data : data.toString())));
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
  await within(once(socket, "open"), "the handshake");
  return socket;
}

/** Code and reason of the server's Close. */
async function closed(socket) {
  const [code, reason] = await within(once(socket, "close"), "the Close");
  return [code, reason.toString()];
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
  const late = await connect(url, [], { headers: { "Last-Event-ID": `message-${last.data.id - 50}` } });
  for (let number = 50; number < 100; number++) equal((await late.receive()).data.content, String(number), "the replay");
  const events = await connect(server.ws("/ws"));
  const { event } = await publish(server, "/api/events", { type: "scan", payload: { n: 1 } }, { "X-Correlation-ID": "r-1" });
  equal(await events.receive(), event, "the event");
  equal(event.correlation_id, "r-1", "its correlation id");
  equal((await events.receive("heartbeat")).event_id, event.event_id, "the heartbeat's id");
  for (const socket of [...sockets, late, events]) socket.terminate();
}

async function pings(server) {
  const socket = await connect(server.ws("/api/ws/pings"));
  socket.ping("payload");
  equal((await within(once(socket, "pong"), "a Pong"))[0].toString(), "payload", "the payload of the Pong");
  await within(once(socket, "ping"), "the server's Ping");
  socket.send('{"type":"ping"}');
  equal(await socket.receive(), { type: "pong" }, "the answer to a ping");
  socket.terminate();
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
  socket.terminate();
}

async function sizes(server) {
  const echo = await connect(server.ws("/api/ws"), [], { maxPayload: FRAME_BYTES_MAX });
  const bytes = Buffer.alloc(MESSAGE_BYTES_MAX, Uint8Array.from({ length: 256 }, (_, byte) => byte));
  echo.send(bytes);
  check(bytes.equals(await echo.next()), "the echo differs");
  for (let part = 0; part < 1000; part++) echo.send("part ", { fin: part === 999 });
  equal(await echo.next(), "part ".repeat(1000), "the echo of fragments");
  echo.terminate();
  const socket = await connect(server.ws("/api/ws/large"), [], { maxPayload: FRAME_BYTES_MAX });
  socket.send(sized(MESSAGE_BYTES_MAX, { author: "a" }));
  check((await socket.receive()).data.content.length > MESSAGE_BYTES_MAX - 100, "a large message does not come back");
  socket.send(sized(MESSAGE_BYTES_MAX + 1, { author: "a" }));
  equal(await closed(socket), [1009, "message is too long"], "the close of a message too large");
}

async function closes(server) {
  const token = new WebSocket(server.ws("/ws?subscribe_token=x"));
  equal(await closed(token), [4400, "Invalid subscribe_token format"], "the close of a bad token");
  const socket = await connect(server.ws("/api/ws/closes"));
  socket.close(3456, "bye");
  equal(await closed(socket), [3456, ""], "the answer to a Close");
  const foreign = new WebSocket(server.ws("/api/ws/closes"), { origin: "http://example.org" });
  const [, response] = await within(once(foreign, "unexpected-response"), "the refusal");
  equal(response.statusCode, 403, "the answer to a foreign origin");
  response.destroy();
  const last = await connect(server.ws("/api/ws/closes"), "polecat.v1");
  await last.receive("live");
  server.askToStop();
  check((await last.receive("reconnect")).payload.after_ms >= 500, "it is not told when to reconnect");
  equal(await closed(last), [1001, "going away"], "the close of a shutdown");
}

async function resume(server) {
  const readers = [new Reader("by header", "message-00000"), new Reader("by query", "message-00000"), new Reader("events", "event-00000")];
  const byHeader = (reader, url) => new WebSocket(url, { headers: { "Last-Event-ID": reader.eventId } });
  const byQuery = (reader, url) => new WebSocket(after(reader, url), "polecat.v1");
  const ways = [[byHeader, "/api/ws/room"], [byQuery, "/api/ws/room"], [byHeader, "/ws"]];
  const follows = readers.map((reader, place) => follow(reader, () => ways[place][0](reader, server.ws(ways[place][1]))));
  const publisher = () => new WebSocket(server.ws("/api/ws/room"), "polecat.v1");
  const acknowledged = new Count();
  await Promise.all([postAll(server, acknowledged), sendAll(publisher, acknowledged), killNowAndThen(server, acknowledged)]);
  await insist(server, "/api/messages", { channel_id: "room", author: "", content: "end" }, "end");
  await insist(server, "/api/events", { type: "note", payload: { content: "end" } }, "end");
  await within(Promise.all(follows), "the end of all that was published");
  readers.forEach((reader, place) => reader.check([["rest", "ws"], ["rest", "ws"], ["event"]][place]));
}

await run(binary, ["--heartbeat-interval", "2"], [broadcasts, pings, subprotocol, sizes, closes]);
await run(binary, [], [resume]);
