// The console in a page of headless Chromium, as a person uses it: with_console.mjs BINARY PACKAGES

import { once } from "node:events";
import { connect } from "node:net";

import { Browser } from "./browser.mjs";
import { check, equal, publish, within } from "./polecat.mjs";
import { run } from "./server.mjs";

const [binary, packages] = process.argv.slice(2);
const browser = await new Browser(packages).start();
const VIEWS = ["overview", "events", "channels", "channels/general", "connections"];

const open = async (server, view) => {
  await browser.open(`${server.http("/")}#${view}`);
  await browser.until(`document.querySelector("#stream").dataset.state === "live"`);
};
const text = (selector) => browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).innerText`);
const post = (server, content, channel = "general") => publish(server, "/api/messages", { channel_id: channel, author: "rest", content });
const stored = async (server) => (await (await fetch(server.http("/api/messages?channel_id=general&limit=1000"))).json()).messages;
/** The messages that the page shows, as [id, content]. */
const shown = () =>
  browser.evaluate(`[...document.querySelectorAll("#channel-log .message")].map((row) => [Number(row.dataset.id), row.querySelector("p").innerText])`);
const until_shown = (content) =>
  browser.until(`[...document.querySelectorAll("#channel-log p")].some((row) => row.innerText === ${JSON.stringify(content)})`, content);

async function key(name, code) {
  for (const type of ["keyDown", "keyUp"]) {
    const event = { type, key: name, windowsVirtualKeyCode: code, ...(name === "Enter" && type === "keyDown" && { text: "\r" }) };
    await browser.call("Input.dispatchKeyEvent", event, browser.page);
  }
}

async function type(selector, text) {
  await browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`);
  await browser.call("Input.insertText", { text }, browser.page);
}

async function send(content) {
  await type("#send textarea", content);
  await key("Enter", 13);
}

async function messages(server) {
  await open(server, "channels/general");
  await browser.until(`document.querySelector("#channel-state").dataset.state === "live"`);
  await post(server, "by REST");
  await until_shown("by REST");
  await send("from the console");
  await until_shown("from the console");
  await browser.until(`document.querySelector("#send-status").innerText === "stored as message-00002"`);
  await post(server, `<img src="x" onerror="boom()"><script>boom()</script><b>bold</b>`);
  await until_shown(`<img src="x" onerror="boom()"><script>boom()</script><b>bold</b>`);
  equal(await browser.evaluate(`document.querySelectorAll("#channel-log :is(img, script, b)").length`), 0, "elements out of data");
  await post(server, "elsewhere", "other/channel");
  await browser.until(`[...document.querySelectorAll("#channel-list a")].some((link) => link.innerText === "other/channel")`);
  await browser.evaluate(`[...document.querySelectorAll("#channel-list a")].find((link) => link.innerText === "other/channel").click()`);
  await until_shown("elsewhere");
  equal((await shown()).length, 1, "messages of another channel");
  equal(await text("#channel-name"), "other/channel", "the name");
}

/** Nothing is lost or doubled, whatever the server goes through. */
async function restarts(server) {
  await open(server, "channels/general");
  for (let round = 0; round < 3; round++) {
    for (let number = 0; number < 5; number++) await post(server, `round ${round}, ${number}`);
    await server.kill();
    await browser.until(`document.querySelector("#channel-state").dataset.state === "waiting"`);
    await browser.until(`document.querySelector("#health").dataset.status === "unreachable"`);
    await send(`typed while it was away, ${round}`);
    await server.start();
    await post(server, `first after ${round}`);
    await until_shown(`typed while it was away, ${round}`);
    await until_shown(`first after ${round}`);
  }
  const all = (await stored(server)).map(({ id, content }) => [id, content]);
  equal(await shown(), all, "what is shown");
  const typed = all.filter(([, content]) => content.startsWith("typed"));
  equal(typed.length, 3, "what was typed while it was away, stored");
}

/** A message whose key the server may have forgotten is not sent again, and not called lost. */
async function unknown(server) {
  await open(server, "channels/general");
  await browser.until(`document.querySelector("#channel-state").dataset.state === "live"`);
  server.process.kill("SIGSTOP");
  await send("nobody knows");
  await browser.until(`document.querySelector("#send-status").innerText === "sending"`);
  await browser.evaluate(`Date.now = ((now) => () => now() + 1e9)(Date.now.bind(Date))`);
  await server.kill();
  await server.start();
  const told = `document.querySelector("#send-status").innerText.startsWith("it may or may not be stored")`;
  await browser.until(told, "what is said of it");
  equal(await browser.evaluate(`document.querySelector("#send textarea").value`), "nobody knows", "the text, to be sent again");
}

/** Back to the first message and forth to the newest, with so many rows and no more. */
async function history(server) {
  for (let number = 0; number < 700; number++) await post(server, `old ${number}`);
  await open(server, "channels/general");
  await until_shown("old 699");
  const log = `document.querySelector("#channel-log")`;
  for (let seen = ""; !seen.includes("this is the oldest message kept"); ) {
    const first = await browser.evaluate(`${log}.querySelector("li").innerText`);
    await browser.evaluate(`${log}.scrollTop = 200`);
    await browser.evaluate(`${log}.scrollTop = 0`);
    await browser.until(`${log}.querySelector("li").innerText !== ${JSON.stringify(first)}`, "an older message");
    seen = await browser.evaluate(`${log}.querySelector("li").innerText`);
    check((await browser.evaluate(`${log}.querySelectorAll("li").length`)) <= 500, "too many rows are kept");
  }
  const all = (await stored(server)).map(({ id, content }) => [id, content]);
  const rows = await shown();
  equal(rows, all.slice(0, rows.length), "the oldest");
  await post(server, "while one looks back");
  await browser.until(`${log}.querySelector(".newest").innerText.startsWith("1 newer")`);
  equal((await shown()).length, rows.length, "rows, while one looks back");
  await browser.evaluate(`${log}.querySelector(".newest").click()`);
  await until_shown("while one looks back");
  await post(server, "and on");
  await until_shown("and on");
}

/** POSTs one body again and again, all at once, on one connection. */
async function burst(server, path, body, count) {
  const json = JSON.stringify(body);
  const post = (field) => `POST ${path} HTTP/1.1\r\nHost: a\r\n${field}Content-Type: application/json\r\nContent-Length: ${json.length}\r\n\r\n${json}`;
  const socket = connect(server.port, "127.0.0.1").resume();
  socket.write(post("").repeat(count - 1) + post("Connection: close\r\n"));
  await within(once(socket, "end"), "the answers");
  socket.destroy();
}

/** However much comes between two frames, the list is laid out once for it, and stays at its end unless one scrolls back. */
async function bursts(server) {
  for (const [view, path, body, state] of [
    ["channels/general", "/api/messages", { channel_id: "general", author: "a", content: "c" }, "#channel-state"],
    ["events", "/api/events", { type: "burst", payload: { some: "thing" }, correlation_id: "one" }, "#stream"],
  ]) {
    await open(server, view);
    await browser.until(`document.querySelector("${state}").dataset.state === "live"`);
    await browser.evaluate(`(() => {
      const { get } = Object.getOwnPropertyDescriptor(Element.prototype, "scrollHeight");
      let asked = 0;
      window.most = 0;
      Object.defineProperty(Element.prototype, "scrollHeight", { get() {
        if (++asked === 1) requestAnimationFrame(() => (asked = 0));
        most = Math.max(most, asked);
        return get.call(this);
      } });
    })()`);
    await burst(server, path, body, 2000);
    const log = `document.querySelector(".log:not([hidden] .log)")`;
    const newest = `[...${log}.querySelectorAll("li > .id:last-child")].at(-1)`;
    await browser.until(`Number(${newest}?.textContent.split("-").at(-1)) === 2000`, "the last of a burst");
    const most = await browser.evaluate("most");
    check(most <= 3, `${view}: the list is laid out ${most} times for one frame`);
    equal(await browser.evaluate(`${log}.querySelectorAll("li").length`), 500, "rows");
    const away = `Math.round(${log}.scrollHeight - ${log}.scrollTop - ${log}.clientHeight)`;
    await browser.until(`${away} <= 1`, "the end of the list");
    // A little back, while rows come: what is looked at stays.
    const row = `document.elementFromPoint(${log}.getBoundingClientRect().x + 20, ${log}.getBoundingClientRect().y + 60).closest("li").lastChild.innerText`;
    await browser.evaluate(`${log}.scrollTop -= 300`);
    await browser.until(`!${log}.querySelector(".newest").hidden`, "the way to the newest");
    const seen = await browser.evaluate(row);
    await burst(server, path, body, 100);
    await browser.until(`${log}.querySelector(".newest").innerText.startsWith("100 newer")`, "what comes while one looks back");
    equal(await browser.evaluate(row), seen, `${view}: what is looked at`);
  }
}

async function events(server) {
  await open(server, "events");
  for (let number = 0; number < 30; number++) {
    const event = { type: ["scan.begun", "scan.done", "login"][number % 3], payload: { number, html: "<i>x</i>" }, correlation_id: `request-${number % 5}` };
    await publish(server, "/api/events", event);
  }
  const rows = () => browser.evaluate(`[...document.querySelectorAll("#event-log .event")].map((row) => row.querySelector("strong").innerText)`);
  const count = (number) => browser.until(`document.querySelectorAll("#event-log .event").length === ${number}`, `${number} events`);
  await count(30);
  await type("#event-filter [name=type]", "scan.");
  await count(20);
  check((await rows()).every((name) => name.startsWith("scan.")), "another type is shown");
  await browser.evaluate(`[...document.querySelectorAll("#event-log button.id")].find((button) => button.innerText === "request-3").click()`);
  await count(6);
  equal((await rows()).sort().join(), "login,login,scan.begun,scan.begun,scan.done,scan.done", "what belongs together");
  await publish(server, "/api/events", { type: "login", payload: {}, correlation_id: "request-3" });
  await publish(server, "/api/events", { type: "login", payload: {}, correlation_id: "request-4" });
  await count(7);
  await browser.evaluate(`document.querySelector("#event-clear").click()`);
  await count(32);
  // One row is reached by Tab, the others from there.
  const stops = `[...document.querySelectorAll("#event-log summary")].filter((one) => one.tabIndex === 0)`;
  equal(await browser.evaluate(`${stops}.length`), 1, "rows that Tab stops at");
  await browser.evaluate(`${stops}[0].focus()`);
  for (let presses = 0; presses < 2; presses++) await key("ArrowUp", 38);
  equal(await browser.evaluate(`document.activeElement.closest("li").querySelector(":scope > .id:last-child").innerText`), "event-00030", "two rows up");
  equal(await browser.evaluate(`${stops}.indexOf(document.activeElement)`), 0, "where Tab stops now");
  // What was there before the page comes, too; and what comes after a kill.
  await open(server, "events");
  await count(32);
  await server.kill();
  await server.start();
  await publish(server, "/api/events", { type: "after", payload: {} });
  await count(33);
  await browser.until(`document.querySelector("#event-log").innerText.includes("resumed after event-00032")`);
}

async function figures(server) {
  await open(server, "overview");
  await browser.until(`document.querySelector("#facts").innerText.includes("newest event")`);
  await browser.until(`document.querySelectorAll(".plot:not([hidden]) .line[d^=M]").length === 6`, "six plots");
  equal(await text("#version"), "0.1.0", "the version");
  await browser.evaluate(`location.hash = "#channels/general"`);
  await browser.until(`document.querySelector("#channel-state").dataset.state === "live"`);
  await browser.evaluate(`location.hash = "#connections"`);
  const has = (table, ...texts) =>
    browser.until(`[...document.querySelector("${table}").rows].some((row) => ${JSON.stringify(texts)}.every((text) => row.innerText.includes(text)))`, texts.join());
  await has("#connection-list", "channel", "general", "polecat.v1", "127.0.0.1:");
  await has("#connection-list", "events", "polecat.v1");
  await browser.evaluate(`location.hash = "#channels/other"`);
  await browser.until(`document.querySelector("#channel-state").dataset.state === "live"`);
  await browser.evaluate(`location.hash = "#connections"`);
  await has("#closed-list", "client close", "general");
}

/** Without the figures of a newer server the rest works. */
async function absence(server) {
  await browser.open("about:blank");
  const patterns = ["health?verbose=1", "connections?*"].map((path) => ({ urlPattern: `*/api/${path}` }));
  await browser.call("Fetch.enable", { patterns }, browser.page);
  browser.intercepted = ({ requestId }) => browser.call("Fetch.fulfillRequest", { requestId, responseCode: 404 }, browser.page);
  await browser.call("Page.navigate", { url: server.http("/") }, browser.page);
  await browser.until(`document.querySelector("#stream")?.dataset.state === "live"`);
  await browser.until(`!document.querySelector("#no-figures").hidden && document.querySelector("#figures").hidden`);
  await browser.evaluate(`location.hash = "#connections"`);
  await browser.until(`!document.querySelector("#no-connections").hidden`);
  await browser.evaluate(`location.hash = "#channels/general"`);
  await post(server, "without figures");
  await until_shown("without figures");
  await browser.call("Fetch.disable", {}, browser.page);
}

/** All that is used can be reached by keys, is seen when it is, and has a name; and nothing is wider than a phone. */
async function access(server) {
  for (const view of VIEWS) {
    await open(server, view);
    const reached = new Set();
    for (let presses = 0; presses < 40; presses++) {
      await key("Tab", 9);
      const [what, outline] = await browser.evaluate(`(() => {
        const { id, name, hash, ariaLabel, innerText, tagName } = document.activeElement;
        return [tagName === "BODY" ? tagName : id || name || hash || ariaLabel || innerText, getComputedStyle(document.activeElement).outlineStyle];
      })()`);
      check(what === "BODY" || outline !== "none", `the focus on ${what} is not seen`);
      reached.add(what);
    }
    const selector = `#${view.split("/")[0]} :is(a[href], input, textarea, button, [tabindex])`;
    const wanted = await browser.evaluate(
      `[...document.querySelectorAll("${selector}, nav a")].filter((one) => !one.disabled && one.tabIndex >= 0 && one.checkVisibility()).map((one) => one.id || one.name || one.hash || one.ariaLabel || one.innerText)`,
    );
    equal(wanted.filter((what) => !reached.has(what)), [], `${view}: what no key reaches`);
    const { nodes } = await browser.call("Accessibility.getFullAXTree", {}, browser.page);
    const roles = ["button", "textbox", "combobox", "link", "region", "navigation", "heading"];
    const nameless = nodes.filter(({ role, name, ignored }) => !ignored && roles.includes(role?.value) && !name?.value);
    equal(nameless.map(({ role }) => role.value), [], `${view}: what has no name`);
    check(nodes.some(({ role }) => role?.value === "main"), "there is no main landmark");
    for (const width of [360, 390, 1200]) {
      await browser.look("dark", width, 740);
      const wide = await browser.evaluate(`[document.documentElement, document.querySelector("main")].map((one) => one.scrollWidth - one.clientWidth)`);
      equal(wide, [0, 0], `${view}: pixels beyond ${width}`);
    }
  }
}

/** Nothing was complained of; and what the policy forbids would have been. */
async function policy(server) {
  equal(browser.complaints, [], "what the browser says of the page");
  await open(server, "overview");
  const said = new Promise((found) => (browser.complained = found));
  await browser.evaluate(`document.body.append(Object.assign(document.createElement("img"), { src: "//127.0.0.2/x.png" }))`);
  check(/Content Security Policy/.test(await within(said, "the complaint")), "an image from outside is not forbidden");
  const thrown = `(() => { try { document.body.innerHTML = "<b>x</b>"; } catch (error) { return error.name; } })()`;
  equal(await browser.evaluate(thrown), "TypeError", "markup out of text");
}

try {
  console.log((await browser.call("Browser.getVersion")).product);
  await run(binary, [], [messages, restarts, unknown]);
  await run(binary, [], [history]);
  await run(binary, [], [bursts]);
  await run(binary, [], [events, figures, absence, access, policy]);
} finally {
  await browser.stop();
}
