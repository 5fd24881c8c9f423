// Elements out of text, and numbers, times and spans as people read them. Nothing here, or elsewhere, makes markup out of data.

/** An element. Of `properties`, `class`, `role`, `aria-…`, `data-…` and `datetime` are attributes; the others are set.
 * @param {string} name
 * @param {object} [properties]
 * @param {...(Node | string)} children */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (/^(class|role|datetime|scope|aria-|data-)/.test(key)) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** The element of that id, which is there. */
export const byId = (id) => document.getElementById(id);

/** Sets text only where it has changed, so that nothing is laid out or read out for nothing. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** The text of a cell; what is nothing steps back. */
export function setCell(cell, text) {
  setText(cell, text);
  cell.classList.toggle("nothing", ["0", "0 B", "–", "none"].includes(text));
}

/** `12,345`; with decimals where it is small and none is whole. */
export function count(number) {
  const digits = number !== 0 && Math.abs(number) < 10 && !Number.isInteger(number) ? 1 : 0;
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function bytes(number) {
  if (number < 1024) return `${count(number)} B`;
  const power = Math.min(Math.floor(Math.log2(number) / 10), 4);
  const value = number / 1024 ** power;
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })} ${" KMGT"[power]}iB`;
}

/** Of milliseconds, the two greatest units. */
export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [[large, size], [small, part]] = [units[first], units[first + 1]];
  return `${Math.floor(seconds / size)} ${large} ${Math.floor((seconds % size) / part)} ${small}`;
}

export function microseconds(number) {
  return number < 1000 ? `${count(number)} µs` : `${count(number / 1000)} ms`;
}

/** A time of the server's; the whole of it in the tooltip. */
export function time(timestamp) {
  const date = new Date(timestamp);
  const isToday = date.toDateString() === new Date().toDateString();
  const clock = date.toLocaleTimeString("en-GB");
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  return element("time", { datetime: timestamp, title: timestamp }, isToday ? clock : `${day} ${clock}`);
}

/** A reason, a kind, a counter: as the server names it, in words. */
export const words = (name) => name.replaceAll("_", " ");

/** The JSON that the server answers, whatever the status; null where the path leads to nothing, or a proxy answers.
 * @param {string} path relative to the page
 * @returns {Promise<?object>} */
export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
  if (answer.status === 404) return null;
  const body = await answer.json().catch(() => null);
  if (body && !answer.ok && body.detail) throw new Error(typeof body.detail === "string" ? body.detail : "the server refused the request");
  return body;
}

/** A function that has `work` done before the next frame, however often it is called until then: in a page that nobody sees,
 * not until it is seen. */
export function oncePerFrame(work) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}

/** Calls `refresh` now and every so often while `isWanted` holds and the page is seen, one at a time. */
export function repeat(refresh, everyMs, isWanted = () => true) {
  let timer;
  let isRunning = false;
  const round = async () => {
    clearTimeout(timer);
    if (isRunning || document.hidden || !isWanted()) return;
    isRunning = true;
    await refresh();
    isRunning = false;
    timer = setTimeout(round, everyMs);
  };
  document.addEventListener("visibilitychange", round);
  round();
  return round;
}
