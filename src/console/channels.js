// The list of channels, and one channel: its messages back to the first, and a box to send one.

import { connect } from "../polecat.js";
import { Log } from "./log.js";
import { ask, byId, count, element, repeat, setCell, setText, time } from "./text.js";

const LISTED_MAX = 200;
const PAGE = 100; // messages per request
const RETRY_MS = 2000;
const STATES = { connecting: "connecting", replaying: "catching up", live: "live", waiting: "lost, reconnecting", closed: "closed" };

export class Channels {
  #after = ""; #next = null; #refresh; #open = null;

  constructor(pollMs, isSeen) {
    this.#refresh = repeat(() => this.#list(), 2 * pollMs, isSeen);
    byId("channels-first").addEventListener("click", () => this.#page(""));
    byId("channels-next").addEventListener("click", () => this.#page(this.#next));
    byId("channel-open").addEventListener("submit", (event) => {
      event.preventDefault();
      const { name } = event.target.elements;
      if (name.value) location.hash = `#channels/${encodeURIComponent(name.value)}`;
      event.target.reset();
    });
    const form = byId("send");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#open?.send(form.elements);
    });
    form.elements.content.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
  }

  /** @param {string} name of the channel to show; empty shows only the list */
  show(name) {
    byId("channels").dataset.open = String(name !== "");
    byId("channel").hidden = name === "";
    if (this.#open?.name !== name) {
      this.#open?.close();
      this.#open = name ? new Channel(name) : null;
    }
    this.#mark();
    this.#refresh();
  }

  #page(after) {
    this.#after = after;
    this.#refresh();
  }

  async #list() {
    const query = new URLSearchParams({ detail: 1, limit: LISTED_MAX, ...(this.#after && { after: this.#after }) });
    const answer = await ask(`api/channels?${query}`).catch(() => null);
    if (!answer) return; // the list stays as it was; the header says that the server is unreachable
    // An older server lists only names.
    const channels = answer.channels.map((channel) => (typeof channel === "string" ? { channel_id: channel } : channel));
    this.#next = answer.next ?? null;
    byId("channels-first").disabled = !this.#after;
    byId("channels-next").disabled = this.#next === null;
    byId("channels-none").hidden = channels.length > 0;
    const table = byId("channel-list");
    while (table.rows.length > channels.length) table.deleteRow(-1);
    channels.forEach((channel, place) => fill(table.rows[place] ?? table.appendChild(blank()), channel));
    this.#mark();
  }

  #mark() {
    for (const link of byId("channel-list").querySelectorAll("a")) {
      if (link.textContent === this.#open?.name) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}

const blank = () =>
  element("tr", {}, element("th", { scope: "row" }, element("a")), element("td"), element("td"), element("td", { class: "id" }));

function fill(row, { channel_id: name, subscribers, kept, newest }) {
  const link = row.cells[0].firstElementChild;
  setText(link, name);
  link.href = `#channels/${encodeURIComponent(name)}`;
  [subscribers, kept].forEach((number, place) => setCell(row.cells[place + 1], number === undefined ? "" : count(number)));
  setText(row.cells[3], newest ?? "");
}

/** The channel that is shown. */
class Channel {
  #log; #connection = null; #isLoading = false; #hasAll = false; #isClosed = false;

  constructor(name) {
    this.name = name;
    setText(byId("channel-name"), name);
    setText(byId("send-status"), "");
    this.#log = new Log(byId("channel-log"), { onTop: () => this.#goBack(), onEnd: () => this.#begin() });
    this.#begin();
  }

  close() {
    this.#isClosed = true;
    this.#log.close();
    this.#connection?.close();
  }

  /** Shows the newest messages, and then new ones. */
  async #begin() {
    this.#connection?.close();
    this.#connection = null;
    this.#tellState("connecting", STATES.connecting);
    const messages = await this.#ask({});
    if (this.#isClosed) return;
    if (!messages) return void setTimeout(() => this.#isClosed || this.#begin(), RETRY_MS);
    this.#log.clear();
    this.#log.append(messages.map(row), { isQuiet: true });
    this.#hasAll = false;
    const newest = messages.at(-1)?.id ?? 0;
    const connection = connect(`api/ws/${encodeURIComponent(this.name)}`, { lastEventId: `message-${String(newest).padStart(5, "0")}` });
    this.#connection = connection;
    connection.on("message", (message) => this.#log.append([row(message)]));
    connection.on("state", ({ state }) => this.#tellState(state, STATES[state]));
    connection.on("gap", ({ payload }) => {
      this.#note(`messages after ${payload.requested} may be missing`);
      // Some of the messages that are shown are not in this database.
      if (payload.agreed !== payload.requested) queueMicrotask(() => this.#isClosed || this.#begin());
    });
  }

  async #goBack() {
    const before = this.#log.first?.dataset.id;
    if (this.#isLoading || this.#hasAll || !before) return;
    this.#isLoading = true;
    const messages = await this.#ask({ before });
    this.#isLoading = false;
    if (!messages || this.#isClosed) return;
    this.#hasAll = messages.length === 0;
    this.#log.prepend(this.#hasAll ? [element("li", { class: "note" }, "this is the oldest message kept")] : messages.map(row));
  }

  async #ask(more) {
    const query = new URLSearchParams({ channel_id: this.name, limit: PAGE, ...more });
    const answer = await ask(`api/messages?${query}`).catch(() => null);
    return answer?.messages;
  }

  async send({ author, content }) {
    const text = content.value;
    if (!text || !this.#connection) return;
    content.value = "";
    setText(byId("send-status"), "sending");
    try {
      const eventId = await this.#connection.send({ author: author.value || "console", content: text });
      setText(byId("send-status"), `stored as ${eventId}`);
    } catch (error) {
      const isUnknown = error.code === "unknown";
      setText(byId("send-status"), isUnknown ? "it may or may not be stored: check before you send it again" : `not stored: ${error.message}`);
      content.value ||= text;
    }
  }

  #note(text) {
    if (this.#log.first) this.#log.append([element("li", { class: "note" }, text)]);
  }

  #tellState(state, text) {
    byId("channel-state").dataset.state = state;
    setText(byId("channel-state").querySelector("span"), text);
  }
}

function row({ id, author, content, timestamp, lane, provider, token_count: tokens }) {
  const more = [lane && `lane ${lane}`, provider && `provider ${provider}`, tokens !== null && `${count(tokens)} tokens`].filter(Boolean);
  return element(
    "li",
    { class: "message", "data-id": id },
    time(timestamp),
    element("strong", { title: author }, author || "–"),
    element("p", {}, content, more.length > 0 ? element("small", {}, more.join(" · ")) : ""),
    element("span", { class: "id" }, String(id)),
  );
}
