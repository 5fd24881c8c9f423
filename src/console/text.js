// Elements made from text, and numbers, times and durations for people. Nothing here, or elsewhere, makes markup from data.

/** Makes an element. Of `properties`, `class`, `role`, `scope`, `aria-…`, `data-…` and `datetime` become attributes, and the others properties.
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

/** The element with this id, which must exist. */
export const byId = (id) => document.getElementById(id);

/** Sets text only if it has changed, so that nothing is laid out or read aloud in vain. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Sets the text of a cell; an empty value is dimmed. */
export function setCell(cell, text) {
  setText(cell, text);
  cell.classList.toggle("nothing", ["0", "0 B", "–", "none"].includes(text));
}

/** `12,345`; a small number that is not an integer has a decimal. */
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

/** A duration in milliseconds, in its two largest units. */
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

/** A timestamp of the server; the tooltip has all of it. */
export function time(timestamp) {
  const date = new Date(timestamp);
  const isToday = date.toDateString() === new Date().toDateString();
  const clock = date.toLocaleTimeString("en-GB");
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  return element("time", { datetime: timestamp, title: timestamp }, isToday ? clock : `${day} ${clock}`);
}

/** The server's name of a reason, a kind or a counter, in words. */
export const words = (name) => name.replaceAll("_", " ");

/** The JSON of the server's response, whatever its status; null if the path does not exist, or a proxy responds.
 * @param {string} path relative to the page
 * @returns {Promise<?object>} */
export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
  if (answer.status === 404) return null;
  const body = await answer.json().catch(() => null);
  if (body && !answer.ok && body.detail) throw new Error(typeof body.detail === "string" ? body.detail : "the server refused the request");
  return body;
}

/** Returns a function that runs `work` once before the next frame, however often it is called until then. In a hidden page,
 * that is when the page is shown. */
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

/** Calls `refresh` now and at this interval while `isWanted` holds and the page is visible, one call at a time. */
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
