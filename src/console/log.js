// A list that grows at its end and stays there while one looks at the end, holding so many rows and no more.

import { element, oncePerFrame, setText } from "./text.js";

const ROWS_MAX = 500;
const NEAR_PX = 24;
const CONTROLS = "summary, button";

export class Log {
  #list; #region; #button; #isHeld = false; #missed = 0; #rowsMax; #current = null; #resizes;
  // Where the end was when it was last scrolled to.
  #end = 0;
  // To know where the end is, the browser lays out the list: not for each row of many that come at once.
  #follow = oncePerFrame(() => this.#isHeld || this.toEnd());

  /** @param {Element} region that scrolls; a list and a button are put into it
   * @param {{rowsMax?: number, onTop?: () => void, onEnd?: () => void}} [options] what is done where one has scrolled
   *   back to the first row, and to come back to the newest where those are not in the list any more */
  constructor(region, { rowsMax = ROWS_MAX, onTop = () => {}, onEnd = () => {} } = {}) {
    this.#region = region;
    this.#rowsMax = rowsMax;
    this.#list = element("ol", { class: "rows" });
    this.#button = element("button", { type: "button", class: "newest", hidden: true });
    this.#button.addEventListener("click", () => (this.hasNewest ? this.toEnd() : onEnd()));
    region.replaceChildren(this.#list, this.#button);
    this.#resizes = new ResizeObserver(() => this.#isHeld || this.toEnd());
    this.#resizes.observe(region);
    region.onkeydown = (event) => this.#move(event);
    region.onscroll = () => {
      const { scrollTop, scrollHeight, clientHeight } = region;
      const isAway = scrollHeight - scrollTop - clientHeight > NEAR_PX;
      // Rows that have come since push the end away, too: what holds the list is to scroll back.
      this.#hold(isAway && (this.#isHeld || scrollTop < this.#end));
      if (!this.#isHeld && this.hasNewest) this.#missed = 0;
      this.#tell();
      if (scrollTop < NEAR_PX && scrollHeight > clientHeight) onTop();
    };
  }

  /** False once older rows have pushed the newest out. */
  hasNewest = true;

  /** For good: another one may use the region. */
  close() {
    this.#resizes.disconnect();
  }

  /** The oldest row that is there. */
  get first() {
    return this.#list.firstElementChild;
  }

  /** @param {Element[]} rows newer than all that are there */
  append(rows, { isQuiet = false } = {}) {
    if (!isQuiet) this.#missed += rows.length;
    rows.forEach((row) => reach(row, false));
    if (this.hasNewest) {
      this.#list.append(...rows.slice(-this.#rowsMax));
      this.#trim(() => this.#list.firstElementChild);
      this.#follow();
      if (!this.#list.contains(document.activeElement)) this.#makeCurrent(this.#list.lastElementChild);
    }
    this.#tell();
  }

  /** @param {Element[]} rows older than all that are there; what is looked at stays where it is */
  prepend(rows) {
    const before = this.#region.scrollHeight;
    rows.forEach((row) => reach(row, false));
    this.#list.prepend(...rows);
    this.#region.scrollTop += this.#region.scrollHeight - before;
    if (this.#trim(() => this.#list.lastElementChild)) this.hasNewest = false;
    this.#tell();
  }

  toEnd() {
    this.#missed = 0;
    this.#hold(false);
    this.#region.scrollTop = this.#region.scrollHeight;
    this.#end = this.#region.scrollTop;
    this.#tell();
  }

  clear() {
    this.#list.replaceChildren();
    this.hasNewest = true;
    this.toEnd();
  }

  /** Whether the list stays where it is. Only then must rows that go at its top not move it. */
  #hold(isHeld) {
    this.#isHeld = isHeld;
    this.#region.style.overflowAnchor = isHeld ? "auto" : "none";
  }

  /** Only the controls of one row can be reached by Tab, or nobody would get past hundreds of rows. */
  #makeCurrent(row) {
    if (this.#current) reach(this.#current, false);
    this.#current = row;
    if (row) reach(row, true);
  }

  /** By arrows, to the same control of another row. */
  #move(event) {
    const row = event.target.closest("li");
    const steps = { ArrowUp: row?.previousElementSibling, ArrowDown: row?.nextElementSibling, Home: this.#list.firstElementChild, End: this.#list.lastElementChild };
    const to = row && steps[event.key];
    if (!to) return;
    const place = [...row.querySelectorAll(CONTROLS)].indexOf(event.target);
    const control = to.querySelectorAll(CONTROLS)[place];
    if (!control) return;
    event.preventDefault();
    this.#makeCurrent(to);
    control.focus();
  }

  #trim(next) {
    let trimmed = 0;
    for (; this.#list.childElementCount > this.#rowsMax; trimmed += 1) next().remove();
    return trimmed > 0;
  }

  #tell() {
    this.#button.hidden = !this.#isHeld && this.hasNewest;
    setText(this.#button, this.#missed > 0 ? `${this.#missed} newer ↓` : "Newest ↓");
  }
}

function reach(row, isReached) {
  for (const control of row.querySelectorAll(CONTROLS)) control.tabIndex = isReached ? 0 : -1;
}
