// The frame of the console: the selected view, and the state of the server and of the connection to it.

import { Channels } from "./channels.js";
import { Connections } from "./connections.js";
import { Events } from "./events.js";
import { Overview } from "./overview.js";
import { ask, byId, repeat, setText, span } from "./text.js";

const POLL_MS = 2000;
const VIEWS = ["overview", "events", "channels", "connections"];

/** `#channels/a%2Fb` is the channel `a/b` in the view `channels`. */
function place() {
  const [view, rest] = location.hash.slice(1).split(/\/(.*)/s);
  try {
    return VIEWS.includes(view) ? { view, name: decodeURIComponent(rest ?? "") } : { view: VIEWS[0], name: "" };
  } catch {
    return { view: VIEWS[0], name: "" };
  }
}

const isSeen = (view) => () => place().view === view;

const overview = new Overview(POLL_MS);
const events = new Events(tellStream);
const channels = new Channels(POLL_MS, isSeen("channels"));
const connections = new Connections(POLL_MS, isSeen("connections"));

function show() {
  const { view, name } = place();
  for (const one of VIEWS) byId(one).hidden = one !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name || view} · polecat`;
  if (view === "channels") channels.show(name);
  if (view === "connections") connections.show();
  if (view === "events") events.show();
}

/** Shows the state of the event stream, once for each change. */
function tellStream(state, text) {
  const shown = byId("stream");
  shown.dataset.state = state;
  setText(shown.querySelector("span"), `stream ${text}`);
}

/** @param {?object} health the server's report; null if it cannot be reached */
function tellHealth(health) {
  const shown = byId("health");
  shown.dataset.status = health?.status ?? "unreachable";
  setText(shown.querySelector("span"), health ? [health.status, health.reason].filter(Boolean).join(": ") : "unreachable");
  if (health?.version) setText(byId("version"), health.version);
  setText(byId("uptime"), health?.uptime_ms === undefined ? "" : `up ${span(health.uptime_ms)}`);
}

async function poll() {
  // A server that is shutting down or cannot store answers 503 with the reason.
  const asked = ask("api/health?verbose=1").then((told) => told ?? { status: "unknown" });
  const health = await asked.catch(() => null);
  tellHealth(health);
  overview.take(health);
  events.begin(health?.engine);
}

addEventListener("hashchange", show);
show();
repeat(poll, POLL_MS);
