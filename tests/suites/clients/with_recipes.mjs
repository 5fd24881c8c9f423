// The recipes of docs/clients.md and docs/operating.md, as they stand there but for ports and names: with_recipes.mjs BINARY PACKAGES

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { connect as dial, createServer as listen } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { promisify } from "node:util";

import { connect } from "../../../docs/polecat.js";
import { Browser } from "./browser.mjs";
import { check, equal, PATIENCE_MS, pause, Place, publish, within } from "./polecat.mjs";
import { run } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const { WebSocket } = createRequire(`${resolve(packages)}/`)("ws");
const read = (name) => readFileSync(new URL(`../../../docs/${name}.md`, import.meta.url), "utf8");
const RECIPES = read("clients") + read("operating");
const has = (program) => process.env.PATH.split(delimiter).concat("/usr/sbin").some((folder) => isThere(join(folder, program)));

function isThere(path) {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The text of the recipe in that language, for a server on another port. */
function recipe(language, server) {
  const [, text] = RECIPES.match(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "ms"));
  check(text.includes(":8010"), `the recipe in ${language} does not name the port`);
  return text.replaceAll(":8010", `:${server.port}`);
}

const contents = async (server) => (await (await fetch(server.http("/api/messages"))).json()).messages.map(({ content }) => content);

async function curl(server) {
  const { stdout } = await promisify(execFile)("sh", ["-ec", recipe("sh", server)]);
  check(stdout.includes(`"success":true`) && stdout.includes(`{"messages":[`), stdout);
  equal(await contents(server), ["the backup is complete"], "what is stored");
}

async function python(server) {
  const { stdout } = await promisify(execFile)(join(packages, "venv/bin/python"), ["-c", recipe("python", server)]);
  equal(stdout, "{'id': 1, 'event_id': 'message-00002'}\n", "the acknowledgement");
}

async function browser(server) {
  const page = createServer((request, response) => response.setHeader("Content-Type", "text/html").end(recipe("html", server)));
  await once(page.listen(0, "127.0.0.1").unref(), "listening");
  const browser = await new Browser(packages).start();
  try {
    await browser.open(`http://127.0.0.1:${page.address().port}/`);
    const deadline = Date.now() + PATIENCE_MS;
    const isMissing = () => ["3,ann,hello", "message-00003"].some((line) => !browser.logged.includes(line));
    for (; isMissing(); await pause(20)) check(Date.now() < deadline, `the page says ${browser.logged}`);
    equal(browser.complaints, [], "complaints");
  } finally {
    await browser.stop();
  }
}

async function freePort() {
  const server = listen();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Runs a proxy on a free port, which somebody may take before it does; then on another one. */
async function behind(command, write, attend) {
  const said = [];
  for (let attempt = 0; attempt < 5; attempt++) {
    const folder = mkdtempSync(join(tmpdir(), "polecat-proxy-"));
    const proxy = new Place(await freePort());
    const args = write(folder, proxy.port);
    const child = spawn(command, args, { env: { PATH: `${process.env.PATH}:/usr/sbin`, HOME: folder }, stdio: ["ignore", "ignore", "pipe"] });
    child.stderr.on("data", (bytes) => said.push(bytes));
    let isOver = false;
    const ended = once(child, "exit").finally(() => (isOver = true));
    try {
      for (const deadline = Date.now() + PATIENCE_MS; !isOver && !(await answers(proxy)); await pause(20)) {
        check(Date.now() < deadline, `${command} does not listen: ${Buffer.concat(said)}`);
      }
      if (!isOver) return await attend(proxy);
    } finally {
      child.kill("SIGTERM");
      await within(ended, `the end of ${command}`);
      rmSync(folder, { recursive: true, force: true });
    }
  }
  check(false, `${command} does not start: ${Buffer.concat(said)}`);
}

const answers = ({ port }) =>
  new Promise((said) => {
    const socket = dial(port, "127.0.0.1", () => said(true)).on("error", () => said(false));
    socket.on("connect", () => socket.destroy());
  });

/** What a page behind the proxy does. */
async function visit(server, proxy) {
  const origin = `http://127.0.0.1:${proxy.port}`;
  class FromPage extends WebSocket {
    constructor(url, protocol) {
      super(url, protocol, { origin });
    }
  }
  const page = await fetch(proxy.http("/"));
  const again = await fetch(proxy.http("/"), { headers: { "If-None-Match": page.headers.get("ETag") } });
  equal([page.status, again.status], [200, 304], "the console");
  const channel = connect(proxy.ws("/api/ws/proxied"), { WebSocket: FromPage });
  const seen = [];
  const sees = (number) => within(new Promise((done) => channel.on("message", ({ content }) => seen.push(content) === number && done())), "messages");
  const both = sees(2);
  await within(channel.send({ content: "by WebSocket" }), "an acknowledgement");
  await publish(proxy, "/api/messages", { channel_id: "proxied", author: "page", content: "by POST" }, { Origin: origin });
  await both;
  equal(seen, ["by WebSocket", "by POST"], "what is seen");
  const stranger = await fetch(proxy.http("/api/messages"), { method: "POST", body: "{}", headers: { Origin: "http://foreign.example", "Content-Type": "application/json" } });
  equal(stranger.status, 403, "a foreign page");
  // The server goes and comes behind it.
  const third = within(new Promise((done) => channel.on("message", ({ content }) => content === "after a kill" && done())), "the message after a kill");
  await server.kill();
  await server.start();
  await publish(server, "/api/messages", { channel_id: "proxied", author: "page", content: "after a kill" });
  await third;
  equal(seen, ["by WebSocket", "by POST", "after a kill"], "what is seen in the end");
  channel.close();
}

function nginx(server) {
  const write = (folder, port) => {
    const site = recipe("nginx", server).replace("listen 80;", `listen 127.0.0.1:${port};`);
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${join(folder, name)};`);
    const whole = `pid ${join(folder, "pid")};\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n${paths.join("\n")}\n${site}}\n`;
    writeFileSync(join(folder, "nginx.conf"), whole);
    return ["-c", join(folder, "nginx.conf"), "-p", folder, "-e", "stderr", "-g", "daemon off;"];
  };
  return behind("nginx", write, (proxy) => visit(server, proxy));
}

function caddy(server) {
  const write = (folder, port) => {
    const site = recipe("caddyfile", server).replace("polecat.example.org", `http://127.0.0.1:${port}`);
    writeFileSync(join(folder, "Caddyfile"), `{\n\tadmin off\n}\n${site}`);
    return ["run", "--config", join(folder, "Caddyfile"), "--adapter", "caddyfile"];
  };
  return behind("caddy", write, (proxy) => visit(server, proxy));
}

function haproxy(server) {
  const write = (folder, port) => {
    writeFileSync(join(folder, "haproxy.cfg"), recipe("haproxy", server).replace("bind :80", `bind 127.0.0.1:${port}`));
    return ["-db", "-f", join(folder, "haproxy.cfg")];
  };
  return behind("haproxy", write, (proxy) => visit(server, proxy));
}

await run(binary, [], [curl, python, browser]);
for (const proxy of [nginx, caddy, haproxy]) {
  if (has(proxy.name)) await run(binary, [], [proxy]);
  else console.log(`SKIPPED ${proxy.name}, which is not installed`);
}
