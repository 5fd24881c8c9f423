// The event stream: followed for ever, filtered by type and by correlation id.

import { connect } from "../polecat.js";
import { Log } from "./log.js";
import { byId, element, oncePerFrame, setText, time } from "./text.js";

const EVENTS_MAX = 500; // events that are kept, shown or not
const BEGIN_BACK = 100; // earlier events to begin with
const TYPES_MAX = 50;

export class Events {
  #tellStream; #stream; #log; #events = []; #types = new Map(); #isReplaced = false;
  // This counts all events that are kept.
  #countSoon = oncePerFrame(() => this.#tellCount());

  /** @param {(state: string, text: string) => void} tellStream shows the state of the connection */
  constructor(tellStream) {
    this.#tellStream = tellStream;
    this.#log = new Log(byId("event-log"));
    const form = byId("event-filter");
    form.addEventListener("input", () => this.#fill());
    form.addEventListener("submit", (event) => event.preventDefault());
    byId("event-clear").addEventListener("click", () => {
      for (const name of ["type", "correlation"]) form.elements[name].value = "";
      this.#fill();
    });
  }

  /** Follows the stream, beginning with some earlier events if the server reports its newest id.
   * @param {?{epoch: string, newest_event: string}} engine */
  begin(engine) {
    if (this.#stream) return;
    const newest = Number(engine?.newest_event?.split("-")[1] ?? NaN);
    const known = Number.isNaN(newest) ? {} : { epoch: engine.epoch, lastEventId: `event-${String(Math.max(newest - BEGIN_BACK, 0)).padStart(5, "0")}` };
    this.#stream = connect("ws", known);
    this.#stream.on("event", (event) => this.#take(event));
    this.#stream.on("state", (change) => this.#tellState(change));
    this.#stream.on("resumed", ({ payload }) => this.#isReplaced && this.#note(`resumed after ${payload.from}, ${payload.count} events missed in between follow`));
    this.#stream.on("gap", ({ payload }) => this.#note(`messages after ${payload.requested} may be missing`));
    this.#stream.on("health_status", ({ payload }) => this.#note(`store: ${[payload.status, payload.reason].filter(Boolean).join(", ")}`));
    this.#tellState({ state: this.#stream.state });
  }

  show() {
    this.#log.toEnd();
  }

  #tellState({ state, reason }) {
    const why = reason ? ` (${reason})` : "";
    const texts = {
      connecting: "connecting",
      replaying: "catching up",
      live: "live",
      waiting: `lost${why}, reconnecting`,
      closed: `closed${why}`,
    };
    this.#tellStream(state, texts[state]);
    if (state === "waiting" && !this.#isReplaced) this.#note(`the connection was lost${why}`);
    if (state === "waiting") this.#isReplaced = true;
    if (state === "live") this.#isReplaced = false;
  }

  #take(event) {
    this.#events.push(event);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    this.#countType(event.type);
    if (this.#isWanted(event)) this.#log.append([this.#row(event)]);
    this.#countSoon();
  }

  /** Adds a note of the console itself to the events. */
  #note(text) {
    const note = { note: text, timestamp: new Date().toISOString() };
    this.#events.push(note);
    if (this.#events.length > EVENTS_MAX) this.#events.shift();
    this.#log.append([this.#row(note)]);
  }

  #countType(type) {
    const isNew = !this.#types.has(type);
    if (isNew && this.#types.size >= TYPES_MAX) return;
    this.#types.set(type, (this.#types.get(type) ?? 0) + 1);
    if (isNew) byId("event-types").append(element("option", { value: type }));
  }

  #isWanted({ type, correlation_id: correlation, note }) {
    const { elements } = byId("event-filter");
    const [wanted, followed] = [elements.type.value.trim(), elements.correlation.value.trim()];
    return note ? !wanted && !followed : (!wanted || type.includes(wanted)) && (!followed || correlation === followed);
  }

  #fill() {
    this.#log.clear();
    this.#log.append(this.#events.filter((event) => this.#isWanted(event)).map((event) => this.#row(event)), { isQuiet: true });
    this.#tellCount();
  }

  #tellCount() {
    const events = this.#events.filter(({ note }) => !note);
    const wanted = events.filter((event) => this.#isWanted(event)).length;
    setText(byId("event-count"), wanted === events.length ? `${events.length} events` : `${wanted} of ${events.length}`);
    byId("event-none").hidden = events.length > 0;
    const { elements } = byId("event-filter");
    byId("event-clear").disabled = !elements.type.value && !elements.correlation.value;
  }

  #follow(correlation) {
    const { elements } = byId("event-filter");
    elements.correlation.value = correlation;
    elements.type.value = "";
    this.#fill();
    elements.correlation.focus();
  }

  #row(event) {
    if (event.note) return element("li", { class: "note" }, time(event.timestamp), " ", event.note);
    const { type, payload, correlation_id: correlation, timestamp, event_id: eventId } = event;
    const follow = element("button", { type: "button", class: "id", title: `show only events with the correlation id ${correlation}` }, correlation);
    follow.addEventListener("click", () => this.#follow(correlation));
    const short = JSON.stringify(payload);
    const details = element("details", { class: "payload" }, element("summary", {}, element("code", {}, short.length > 400 ? `${short.slice(0, 400)}…` : short)));
    // Formatted only if it is opened.
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(element("pre", {}, JSON.stringify(payload, null, 2)));
    });
    return element("li", { class: "event" }, time(timestamp), element("strong", { title: type }, type), details, follow, element("span", { class: "id" }, eventId));
  }
}
