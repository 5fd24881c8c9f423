// A list that grows at its end, with a maximum number of rows. It follows the end while the end is in view.

import { element, oncePerFrame, setText } from "./text.js";

const ROWS_MAX = 500;
const NEAR_PX = 24;
const CONTROLS = "summary, button";

export class Log {
  #list; #region; #button; #isHeld = false; #missed = 0; #rowsMax; #current = null; #resizes;
  // The position of the end when it was last scrolled to.
  #end = 0;
  // To find the end, the browser must lay out the list: once per frame, not for each of many rows.
  #follow = oncePerFrame(() => this.#isHeld || this.toEnd());

  /** @param {Element} region that scrolls; the list and a button are added to it
   * @param {{rowsMax?: number, onTop?: () => void, onEnd?: () => void}} [options] `onTop` is called when the user has
   *   scrolled back to the first row, and `onEnd` to return to the newest rows if they are no longer in the list */
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
      // New rows push the end away too, so only scrolling back holds the list.
      this.#hold(isAway && (this.#isHeld || scrollTop < this.#end));
      if (!this.#isHeld && this.hasNewest) this.#missed = 0;
      this.#tell();
      if (scrollTop < NEAR_PX && scrollHeight > clientHeight) onTop();
    };
  }

  /** False once older rows have pushed out the newest ones. */
  hasNewest = true;

  /** Closes the list for good: another list may use the region. */
  close() {
    this.#resizes.disconnect();
  }

  /** The oldest row in the list. */
  get first() {
    return this.#list.firstElementChild;
  }

  /** @param {Element[]} rows newer than all in the list */
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

  /** @param {Element[]} rows older than all in the list; the rows in view stay where they are */
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

  /** Whether the list is held where it is. Only then must rows that are removed at its top not move it. */
  #hold(isHeld) {
    this.#isHeld = isHeld;
    this.#region.style.overflowAnchor = isHeld ? "auto" : "none";
  }

  /** Tab reaches the controls of only one row, since nobody could tab through hundreds of rows. */
  #makeCurrent(row) {
    if (this.#current) reach(this.#current, false);
    this.#current = row;
    if (row) reach(row, true);
  }

  /** Arrow keys move to the same control of another row. */
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
