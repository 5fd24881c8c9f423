// The three endpoints on ws, as its documentation shows them: a loop over the
// clients of a channel.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const channels = new Map();

function publish(channelId, message) {
  const { author, content } = message;
  const data = { channel_id: channelId, author, content, lane: null, provider: null, token_count: null };
  const text = JSON.stringify({ type: "message", data });
  for (const client of channels.get(channelId) ?? []) {
    client.send(text);
  }
  return data;
}

function echo(socket) {
  socket.on("message", (message, binary) => socket.send(message, { binary }));
}

function join(socket, channelId) {
  if (!channels.has(channelId)) {
    channels.set(channelId, new Set());
  }
  const members = channels.get(channelId);
  members.add(socket);
  socket.on("message", (message) => publish(channelId, JSON.parse(message)));
  socket.on("close", () => members.delete(socket));
}

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const message = JSON.parse(Buffer.concat(parts));
    const body = JSON.stringify({ success: true, message: publish(message.channel_id, message) });
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
    response.end(body);
  });
});

const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket, request) => {
  socket.on("error", () => socket.terminate());
  if (request.url === "/api/ws") {
    echo(socket);
  } else {
    join(socket, request.url.slice("/api/ws/".length));
  }
});

server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
