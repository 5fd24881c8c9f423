// polecat in a page of headless Chromium, by the DevTools protocol: with_chromium.mjs BINARY PACKAGES

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { Browser } from "./browser.mjs";
import { Count, equal } from "./polecat.mjs";
import { killNowAndThen, run } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const FOREIGN = "foreign.example"; // for this browser, this machine

/** Serves the page and its modules; returns the port. */
async function servePage() {
  const types = { "page.html": "text/html", "page.mjs": "text/javascript", "polecat.mjs": "text/javascript" };
  const server = createServer((request, response) => {
    const name = request.url.slice(1);
    response.writeHead(types[name] ? 200 : 404, { "Content-Type": types[name] ?? "text/plain" });
    response.end(types[name] && readFileSync(new URL(name, import.meta.url)));
  });
  await once(server.listen(0, "127.0.0.1").unref(), "listening");
  return server.address().port;
}

const browser = await new Browser(packages, `--host-resolver-rules=MAP ${FOREIGN} 127.0.0.1`).start();
const port = await servePage();
console.log((await browser.call("Browser.getVersion")).product);

/** A part that runs in a page, on what that tells. */
function inPage(name, host, told = () => {}) {
  const part = async (server) => {
    await browser.open(`http://${host}:${port}/page.html`);
    equal(await browser.evaluate("typeof window.parts"), "object", "the page's script");
    browser.told = (what) => told(server, what);
    await browser.evaluate(`window.parts.${name}(${server.port})`);
  };
  return Object.defineProperty(part, "name", { value: name });
}

async function resume(server) {
  const acknowledged = new Count();
  const page = inPage("resume", "127.0.0.1", () => acknowledged.add());
  await Promise.all([page(server), killNowAndThen(server, acknowledged)]);
}

async function nothingOfTheForeignPage(server) {
  const { messages } = await (await fetch(server.http("/api/messages"))).json();
  equal(messages, [], "what is stored");
}

try {
  const ordinary = ["broadcasts", "subprotocol", "sizes", "cors"].map((name) => inPage(name, "127.0.0.1"));
  const closes = inPage("closes", "localhost", (server) => server.askToStop());
  await run(binary, ["--heartbeat-interval", "2"], [...ordinary, closes]);
  await run(binary, [], [resume]);
  await run(binary, [], [inPage("foreign", FOREIGN), nothingOfTheForeignPage]);
  // The same page, let in.
  await run(binary, ["--allow-origin", `http://${FOREIGN}:${port}`], [inPage("cors", FOREIGN)]);
} finally {
  await browser.stop();
}
