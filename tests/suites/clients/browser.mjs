// Headless Chromium, driven by the DevTools protocol.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { check, PATIENCE_MS, within } from "./polecat.mjs";

/** Headless Chromium with an empty profile. */
export class Browser {
  constructor(packages, ...flags) {
    this.WebSocket = createRequire(`${resolve(packages)}/`)("ws").WebSocket;
    this.flags = flags;
    /** Whatever was wrong with a page, in its own words or the browser's. */
    this.complaints = [];
    this.complained = () => {};
    /** What it has logged. */
    this.logged = [];
  }

  async start() {
    this.profile = mkdtempSync(join(tmpdir(), "polecat-chromium-"));
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"];
    flags.push("--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--disable-dev-shm-usage");
    flags.push(...this.flags, `--user-data-dir=${this.profile}`);
    this.process = spawn("chromium", [...flags, "--remote-debugging-port=0"], { stdio: ["ignore", "ignore", "pipe"] });
    this.ended = once(this.process, "exit");
    const url = new Promise((found) => {
      createInterface(this.process.stderr).on("line", (line) => {
        const place = /DevTools listening on (ws:\S+)/.exec(line);
        if (place) found(place[1]);
      });
    });
    this.socket = new this.WebSocket(await within(url, "the browser"), { maxPayload: 64 << 20 });
    this.answers = new Map();
    this.socket.on("message", (text) => this.take(JSON.parse(text)));
    await within(once(this.socket, "open"), "the browser's protocol");
    return this;
  }

  take({ id, error, result, method, params = {} }) {
    if (id) this.answers.get(id)(error ? Promise.reject(new Error(error.message)) : result);
    if (method === "Runtime.bindingCalled") this.told(params.payload);
    if (method === "Fetch.requestPaused") this.intercepted(params);
    if (method === "Runtime.consoleAPICalled" && params.type === "log") this.logged.push(params.args.map(({ value }) => value).join());
    const complaint = complaintOf(method, params);
    if (complaint) {
      this.complaints.push(complaint);
      this.complained(complaint);
    }
  }

  call(method, params = {}, sessionId = undefined) {
    const id = this.answers.size + 1;
    this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    return new Promise((answer) => this.answers.set(id, answer));
  }

  /** Opens a page anew, instead of the one before, and waits until its script has run. */
  async open(url) {
    const before = this.target;
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    if (before) await this.call("Target.closeTarget", { targetId: before });
    this.target = targetId;
    this.page = (await this.call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Runtime", "Log", "Page"]) await this.call(`${domain}.enable`, {}, this.page);
    await this.call("Runtime.addBinding", { name: "tell" }, this.page);
    await this.call("Page.navigate", { url }, this.page);
    const loaded = "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))";
    do {
      await this.evaluate(loaded);
    } while ((await this.evaluate("location.href")) !== url);
  }

  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", params, this.page);
    check(!exceptionDetails, exceptionDetails?.exception?.description ?? exceptionDetails?.text);
    return result.value;
  }

  /** Waits until an expression holds in the page, which is looked at after each frame. */
  async until(expression, what = expression) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await this.evaluate(`new Promise((done) => setTimeout(() => done(Boolean(${expression})), 20))`))) {
      check(Date.now() < deadline, `${what} does not come`);
    }
  }

  /** How a page is seen: `light` or `dark`, so many pixels wide. */
  async look(scheme, width, height) {
    await this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] }, this.page);
    const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.call("Emulation.setDeviceMetricsOverride", metrics, this.page);
  }

  async screenshot() {
    const { data } = await this.call("Page.captureScreenshot", { format: "png", optimizeForSpeed: false }, this.page);
    return Buffer.from(data, "base64");
  }

  async stop() {
    await this.call("Browser.close").catch(() => {});
    await within(this.ended, "the end of the browser");
    rmSync(this.profile, { recursive: true, maxRetries: 10, retryDelay: 100 });
  }
}

function complaintOf(method, { exceptionDetails, type, args, entry }) {
  if (method === "Runtime.exceptionThrown") return exceptionDetails.exception?.description ?? exceptionDetails.text;
  if (method === "Runtime.consoleAPICalled" && type !== "log") return JSON.stringify(args);
  // That a server is away is no fault of a page.
  const isOfNetwork = entry?.source === "network" || /^WebSocket connection to .* failed/.test(entry?.text);
  return method === "Log.entryAdded" && !isOfNetwork ? `${entry.source}: ${entry.text}` : undefined;
}
