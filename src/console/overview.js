// The figures of the server, now and over the last minutes.

import { Plot } from "./plot.js";
import { byId, bytes, count, element, microseconds, setCell, words } from "./text.js";

const of = (number, most) => (most === null ? count(number) : `${count(number)} of ${count(most)}`);
/** Rows whose values are not numbers. */
const NAMED = new Set(["epoch", "newest message", "newest event"]);
const perSecond = (value) => `${count(value)}/s`;

/** The plots, made from the server's latest report and the one before. */
const PLOTS = [
  { title: "Connections", format: count, value: (now) => now.connections.open },
  {
    title: "Messages in",
    note: "messages and events stored, per second",
    format: perSecond,
    value: (now, rate) => rate("committed"),
  },
  { title: "Messages out", note: "sent to subscribers, per second", format: perSecond, value: (now, rate) => rate("deliveries") },
  { title: "Longest turn", note: "longest turn of the loop in the last 30 to 60 seconds", format: microseconds, value: (now) => now.loop.turn_us_max },
  {
    title: "Lagging",
    note: "subscribers that have not been sent everything yet",
    format: count,
    value: (now) => now.connections.lagging,
    isTold: (now) => now.connections.lagging !== undefined,
  },
  {
    title: "Loop lag",
    note: "longest delay of the loop in the last 30 to 60 seconds",
    format: microseconds,
    value: (now) => now.loop.lag_us_max,
    isTold: (now) => now.connections.lagging === undefined,
  },
  {
    title: "Memory per connection",
    note: "resident memory of the process, divided by its connections",
    format: bytes,
    value: (now) => (now.connections.open > 0 ? now.memory.resident_bytes / now.connections.open : null),
  },
];

export class Overview {
  #before = null;
  #plots;

  constructor(stepMs) {
    this.#plots = PLOTS.map((one) => ({ ...one, plot: new Plot({ ...one, stepMs }) }));
    byId("plots").replaceChildren(...this.#plots.map(({ plot }) => plot.element));
  }

  /** @param {?object} health the server's report; null if it cannot be reached */
  take(health) {
    const told = health?.counters ? { ...health, at: performance.now() } : null;
    byId("no-figures").hidden = health === null || told !== null;
    byId("figures").hidden = health !== null && told === null;
    const isLater = told && this.#before && told.uptime_ms > this.#before.uptime_ms;
    const rate = (name) => {
      if (!isLater) return null;
      return ((told.counters[name] - this.#before.counters[name]) * 1000) / (told.at - this.#before.at);
    };
    for (const { plot, value, isTold } of this.#plots) {
      plot.push(told && value(told, rate));
      if (told && isTold) plot.element.hidden = !isTold(told);
    }
    this.#before = told;
    if (told) this.#tell(told);
  }

  #tell({ engine, connections, descriptors, memory, loop, counters, closed, limits }) {
    const kinds = ["channel", "events", "echo", "http", "closing"].filter((kind) => connections[kind] > 0);
    fill(byId("facts"), [
      ["connections", of(connections.open, connections.max)],
      ...kinds.map((kind) => [`– ${kind}`, count(connections[kind])]),
      ["descriptors", descriptors ? of(descriptors.used, descriptors.max) : "unknown"],
      ["resident memory", memory.resident_bytes ? bytes(memory.resident_bytes) : "unknown"],
      ["– logs", bytes(memory.logs_bytes)],
      ["– inboxes", bytes(memory.inboxes_bytes)],
      ["– outboxes", bytes(memory.outboxes_bytes)],
      ["longest turn, last minute", microseconds(loop.turn_us_max)],
      ["longest loop lag, last minute", microseconds(loop.lag_us_max)],
      ["engine", engine.kind],
      ["epoch", engine.epoch],
      ["newest message", engine.newest_message],
      ["newest event", engine.newest_event],
      ["records waiting", count(engine.records_waiting)],
    ]);
    const counted = (object) => Object.entries(object).map(([name, value]) => [words(name), count(value)]);
    fill(byId("counters"), counted(counters));
    fill(byId("closed"), counted(closed).filter(([, value]) => value !== "0"));
    fill(byId("limits"), counted(limits).filter(([, value]) => value !== "0"));
  }
}

/** Fills a table of names and values; rows stay in place as long as their names do. */
function fill(table, rows) {
  const shown = rows.length > 0 ? rows : [["none", ""]];
  const isSame = shown.length === table.rows.length && shown.every(([name], place) => table.rows[place].cells[0].textContent === name);
  if (!isSame) {
    table.replaceChildren(
      ...shown.map(([name]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", NAMED.has(name) ? { class: "id" } : {}))),
    );
  }
  shown.forEach(([, value], place) => setCell(table.rows[place].cells[1], value));
}
