// The open connections, and why others were closed recently.

import { ask, byId, bytes, count, element, repeat, setCell, setText, span, words } from "./text.js";

const LISTED = 100;
const none = "–";

const COLUMNS = [
  ({ id }) => String(id),
  ({ address }) => address ?? none,
  ({ kind }) => kind,
  ({ channel }) => channel ?? none,
  ({ protocol }) => protocol ?? none,
  ({ age_ms: age }) => span(age),
  ({ heard_ms: heard }) => span(heard),
  ({ lag }) => count(lag),
  ({ outbox_bytes: unsent }) => bytes(unsent),
];

const CLOSED_COLUMNS = [
  ({ ago_ms: ago }) => `${span(ago)} ago`,
  ({ reason }) => words(reason),
  ({ kind }) => kind,
  ({ channel }) => channel ?? none,
  ({ address }) => address ?? none,
  ({ age_ms: age }) => span(age),
];

export class Connections {
  #pages = [""]; #next = null; #refresh;

  constructor(pollMs, isSeen) {
    this.#refresh = repeat(() => this.#list(), pollMs, isSeen);
    const turn = (id, change) =>
      byId(id).addEventListener("click", () => {
        change();
        this.#refresh();
      });
    turn("connections-next", () => this.#pages.push(String(this.#next)));
    turn("connections-previous", () => this.#pages.length > 1 && this.#pages.pop());
  }

  show() {
    this.#refresh();
  }

  async #list() {
    const after = this.#pages.at(-1);
    const query = new URLSearchParams({ limit: LISTED, ...(after && { after }) });
    const answer = await ask(`api/connections?${query}`).catch(() => undefined);
    if (answer === undefined) return; // the list stays as it was; the header says that the server is unreachable
    byId("no-connections").hidden = answer !== null;
    byId("connection-tables").hidden = answer === null;
    if (!answer) return;
    const { connections, closed, next } = answer;
    this.#next = next;
    byId("connections-next").disabled = next === null;
    byId("connections-previous").disabled = this.#pages.length === 1;
    const from = (this.#pages.length - 1) * LISTED;
    setText(byId("connections-range"), connections.length > 0 ? `${count(from + 1)}–${count(from + connections.length)}` : "none");
    fill(byId("connection-list"), connections, COLUMNS);
    fill(byId("closed-list"), closed, CLOSED_COLUMNS);
    byId("closed-none").hidden = closed.length > 0;
  }
}

/** Changes cells in place, so that a selection stays. */
function fill(table, items, columns) {
  while (table.rows.length > items.length) table.deleteRow(-1);
  items.forEach((item, place) => {
    const row = table.rows[place] ?? table.appendChild(element("tr", {}, ...columns.map(() => element("td"))));
    columns.forEach((column, at) => (at === 0 ? setText : setCell)(row.cells[at], column(item)));
  });
}
