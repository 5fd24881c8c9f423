// polecat in a page of headless Chromium, by the DevTools protocol: with_chromium.mjs BINARY PACKAGES

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { check, Count, equal, within } from "./polecat.mjs";
import { killNowAndThen, run } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const { WebSocket } = createRequire(`${resolve(packages)}/`)("ws");
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

/** Headless Chromium with an empty profile. */
class Browser {
  async start() {
    this.profile = mkdtempSync(join(tmpdir(), "polecat-chromium-"));
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"];
    flags.push("--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--disable-dev-shm-usage");
    flags.push(`--host-resolver-rules=MAP ${FOREIGN} 127.0.0.1`, `--user-data-dir=${this.profile}`);
    this.process = spawn("chromium", [...flags, "--remote-debugging-port=0"], { stdio: ["ignore", "ignore", "pipe"] });
    this.ended = once(this.process, "exit");
    const url = new Promise((found) => {
      createInterface(this.process.stderr).on("line", (line) => {
        const place = /DevTools listening on (ws:\S+)/.exec(line);
        if (place) found(place[1]);
      });
    });
    this.socket = new WebSocket(await within(url, "the browser"), { maxPayload: 16 << 20 });
    this.answers = new Map();
    this.socket.on("message", (text) => this.take(JSON.parse(text)));
    await within(once(this.socket, "open"), "the browser's protocol");
    return this;
  }

  take({ id, error, result, method, params }) {
    if (id) this.answers.get(id)(error ? Promise.reject(new Error(error.message)) : result);
    if (method === "Runtime.bindingCalled") this.told(params.payload);
  }

  call(method, params = {}, sessionId = undefined) {
    const id = this.answers.size + 1;
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((answer) => this.answers.set(id, answer));
  }

  /** Opens a page anew, and waits until its script has run. */
  async open(url) {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    this.page = (await this.call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    await this.call("Runtime.enable", {}, this.page);
    await this.call("Runtime.addBinding", { name: "tell" }, this.page);
    await this.call("Page.enable", {}, this.page);
    await this.call("Page.navigate", { url }, this.page);
    const loaded = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))";
    do {
      await this.evaluate(loaded);
    } while ((await this.evaluate("location.href")) !== url);
    equal(await this.evaluate("typeof window.parts"), "object", "the page's script");
  }

  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", params, this.page);
    check(!exceptionDetails, exceptionDetails?.exception?.description ?? exceptionDetails?.text);
    return result.value;
  }

  async stop() {
    await this.call("Browser.close").catch(() => {});
    await within(this.ended, "the end of the browser");
    rmSync(this.profile, { recursive: true, maxRetries: 10, retryDelay: 100 });
  }
}

const browser = await new Browser().start();
const port = await servePage();
console.log((await browser.call("Browser.getVersion")).product);

/** A part that runs in a page, on what that tells. */
function inPage(name, host, told = () => {}) {
  const part = async (server) => {
    await browser.open(`http://${host}:${port}/page.html`);
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
