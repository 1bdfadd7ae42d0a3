// A table whose rows are updated in place. New rows are clones of the row template that the server rendered.

import { write } from "./clock.js";

export class Rows {
  /** `fill(fields, row data, element)` writes the data into the row's named fields. */
  constructor(name, fill) {
    this.table = document.getElementById(name);
    this.body = this.table.tBodies[0];
    this.empty = document.querySelector(`[data-empty="${name}"]`);
    this.template = document.querySelector(`template[data-row="${name}"]`);
    this.fill = fill;
    this.rows = new Map();
    for (const element of this.body.rows) this.rows.set(element.dataset.key, { element, data: { key: element.dataset.key } });
  }

  has(key) {
    return this.rows.has(key);
  }

  get(key) {
    return this.rows.get(key)?.data;
  }

  /** Write `data` over what the row has; a new row goes where `before(key, data)` says, else by name. */
  set(key, data, place = null) {
    let row = this.rows.get(key);
    if (!row) {
      const element = this.template.content.firstElementChild.cloneNode(true);
      element.dataset.key = key;
      row = { element, data: {} };
      this.rows.set(key, row);
      this.body.insertBefore(element, place ? place(this) : this.#nextByName(key));
    }
    Object.assign(row.data, data);
    this.fill(fields(row.element), row.data, row.element);
    this.#show();
  }

  #nextByName(key) {
    for (const element of this.body.rows) if (element.dataset.key > key) return element;
    return null;
  }

  remove(key) {
    this.rows.get(key)?.element.remove();
    this.rows.delete(key);
    this.#show();
  }

  /** Keep exactly these keys. */
  keepOnly(keys) {
    const kept = new Set(keys);
    for (const key of [...this.rows.keys()]) if (!kept.has(key)) this.remove(key);
  }

  #show() {
    this.table.hidden = this.rows.size === 0;
    if (this.empty) this.empty.hidden = this.rows.size > 0;
  }
}

const cache = new WeakMap();

/** The elements below `root` that carry data-f, by that name. */
export function fields(root) {
  let found = cache.get(root);
  if (!found) {
    found = Object.fromEntries([...root.querySelectorAll("[data-f]")].map((element) => [element.dataset.f, element]));
    cache.set(root, found);
  }
  return found;
}

/** Show a state: the word, and by data-state its icon and colour. */
export function writeState(element, state) {
  element.dataset.state = state;
  write(element, state);
}

/** Make a duration run from `start`, or stand at `text`. */
export function writeSince(element, start, text = "–") {
  if (start) element.dataset.since = start;
  else {
    delete element.dataset.since;
    write(element, text);
  }
}
