// A time series as a small plot of the last five minutes, redrawn for each value.

import { element, setText } from "./text.js";

const VALUES_MAX = 150;
const [WIDTH, HEIGHT] = [300, 48];
const SVG = "http://www.w3.org/2000/svg";

const svg = (name, attributes) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

export class Plot {
  #values = []; #format; #number; #most; #line; #area; #cursor; #at = null;
  #stepMs;

  /** @param {{title: string, note?: string, format: (value: number) => string, stepMs: number}} options */
  constructor({ title, note = "", format, stepMs }) {
    this.#format = format;
    this.#stepMs = stepMs;
    this.#number = element("output", { class: "number" }, "–");
    this.#most = element("p", { class: "most" }, "\u00a0");
    this.#line = svg("path", { class: "line" });
    this.#area = svg("path", { class: "area" });
    this.#cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    picture.append(svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), this.#area, this.#line, this.#cursor);
    picture.addEventListener("pointermove", ({ offsetX }) => this.#point(offsetX / picture.clientWidth));
    picture.addEventListener("pointerleave", () => this.#point(null));
    const head = element("div", { class: "head" }, element("h3", { title: note }, title), this.#number);
    this.element = element("article", { class: "plot" }, head, this.#most, picture);
  }

  /** @param {?number} value null if it is unknown */
  push(value) {
    this.#values.push(Number.isFinite(value) ? value : null);
    if (this.#values.length > VALUES_MAX) this.#values.shift();
    this.#draw();
  }

  #x = (place) => WIDTH - (this.#values.length - 1 - place) * (WIDTH / (VALUES_MAX - 1));

  #draw() {
    const most = Math.max(...this.#values, 0);
    const y = (value) => HEIGHT - 1 - (most > 0 ? value / most : 0) * (HEIGHT - 4);
    const runs = [[]];
    this.#values.forEach((value, place) => {
      if (value === null) runs.push([]);
      else runs.at(-1).push([this.#x(place).toFixed(1), y(value).toFixed(1)]);
    });
    const drawn = runs.filter((run) => run.length > 0).map((run) => (run.length > 1 ? run : [[run[0][0] - 1, run[0][1]], run[0]]));
    const lines = drawn.map((run) => `M${run.map((point) => point.join(" ")).join("L")}`);
    this.#line.setAttribute("d", lines.join(""));
    this.#area.setAttribute("d", drawn.map((run, place) => `${lines[place]}V${HEIGHT}H${run[0][0]}Z`).join(""));
    setText(this.#most, most > 0 ? `max ${this.#format(most)}` : "\u00a0");
    this.#tell();
  }

  /** Shows the value at this fraction of the width, where the pointer is. */
  #point(part) {
    this.#at = part === null ? null : Math.round((1 - part) * (VALUES_MAX - 1));
    const isSeen = this.#at !== null && this.#at < this.#values.length;
    this.#cursor.setAttribute("visibility", isSeen ? "visible" : "hidden");
    if (!isSeen) this.#at = null;
    this.#tell();
  }

  #tell() {
    const place = this.#values.length - 1 - (this.#at ?? 0);
    const value = this.#values[place];
    const said = value === null || value === undefined ? "–" : this.#format(value);
    if (this.#at !== null) {
      for (const end of ["x1", "x2"]) this.#cursor.setAttribute(end, this.#x(place));
    }
    setText(this.#number, this.#at ? `${said}, ${Math.round((this.#at * this.#stepMs) / 1000)} s ago` : said);
  }
}
