// Pictures of the console, with some traffic: screenshots.mjs BINARY PACKAGES FOLDER

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { connect } from "../../../docs/polecat.js";
import { Browser } from "./browser.mjs";
import { check, pause, publish } from "./polecat.mjs";
import { Server } from "./server.mjs";

const [binary, packages, folder] = process.argv.slice(2);
const SECONDS = 240;
const BYTES_MAX = 150_000;
const PICTURES = [
  ["overview", "light", 1200, 760],
  ["events", "dark", 1200, 480],
  ["channels/deploys", "dark", 1200, 480],
  ["channels/deploys", "light", 390, 640],
  ["overview", "dark", 390, 640],
];
const LINES = [
  ["ann", "api 4.2.1 is on the first three hosts"],
  ["bob", "Latency is as before. Go on?"],
  ["ann", "yes"],
  ["deploy-bot", "api 4.2.1: 12 of 12 hosts\n0 errors, 41 s", { lane: "production", provider: "fleet", token_count: 412 }],
  ["carla", "Search is slower since 14:05, about 30 ms at the 99th percentile. I look into it."],
  ["bob", "The new index is still warming up; give it ten minutes."],
];

/** Two people, a bot and thirty pages that listen, busier in waves. */
async function traffic(server, WebSocket) {
  const listeners = [];
  for (let second = 0; second < SECONDS; second++) {
    if (listeners.length < 30 && second % 3 === 0) listeners.push(connect(server.ws("/api/ws/deploys"), { WebSocket }));
    if (second % 50 === 49) listeners.splice(0, 6).forEach((listener) => listener.close());
    const busy = 1 + Math.round(4 * (1 + Math.sin(second / 9)));
    for (let number = 0; number < busy; number++) {
      const scan = `scan-${Math.floor(second / 4)}`;
      const event = { type: ["scan.begun", "scan.progress", "scan.done"][Math.min(number, 2)], payload: { project: 7, files: 40 * number + second }, correlation_id: scan };
      await publish(server, "/api/events", event);
      await publish(server, "/api/messages", { channel_id: ["general", "search"][number % 2], author: "bot", content: `${number}` });
    }
    const [author, content, more] = LINES[second % LINES.length];
    await publish(server, "/api/messages", { channel_id: "deploys", author, content, ...more });
    await pause(1000);
  }
}

const server = await new Server(binary).start();
const browser = await new Browser(packages).start();
try {
  await browser.open(server.http("/"));
  await traffic(server, browser.WebSocket);
  for (const [view, scheme, width, height] of PICTURES) {
    await browser.look(scheme, width, height);
    await browser.evaluate(`location.hash = "#${view}"`);
    await browser.until(`document.querySelectorAll("#${view.split("/")[0]} :is(.message, .event, .line[d^=M])").length > 5`);
    await pause(1000); // for the lists beside it, too
    const picture = await browser.screenshot();
    check(picture.length < BYTES_MAX, `the picture of ${view} has ${picture.length} bytes`);
    writeFileSync(join(folder, `console-${view.split("/")[0]}-${scheme}${width < 600 ? "-phone" : ""}.png`), picture);
  }
} finally {
  await browser.stop();
  await server.remove();
}
process.exit();
