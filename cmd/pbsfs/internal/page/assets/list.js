// A listing of any length. Only the rows in sight are elements; a grid of ARIA says which
// of how many they are.

import { make } from './dom.js';

const spare = 6; // rows beyond the visible ones, so that scrolling shows no gap

// Browsers cannot make elements higher than some millions of pixels. A longer listing is
// scrolled faster than the scroll bar says.
const highest = 8_000_000;

// List shows rows. A row has a unique key, a name, and whatever the columns show of it; a
// column is {key, label, compare?, cell(row)}, the first one the name. Directories, which
// have the field first, come before the rest whatever the order is.
//
// onOpen(row) is called by Enter, onUp() by Backspace, onActive(row) when another row
// is the active one. Exactly one row is: the one that has, or would get, the focus. Only
// its links can be reached by Tab.
export class List {
  #columns = [];
  #all = []; // in order
  #rows = []; // of all, those that the filter lets pass
  #drawn = new Map(); // index: element
  #active = 0;
  #order = { column: 0, down: false };
  #needle = '';
  #rowHeight = 0;
  #queued = false;

  constructor(place, { label, onOpen, onUp, onActive }) {
    this.onOpen = onOpen;
    this.onUp = onUp;
    this.onActive = onActive;
    this.header = make('div', { role: 'row', class: 'row header', 'aria-rowindex': 1 });
    this.body = make('div', { role: 'rowgroup', class: 'rows' });
    this.scroller = make('div', { class: 'scroller', role: 'presentation' }, this.body);
    this.head = make('div', { role: 'rowgroup' }, this.header);
    this.root = make('div', { role: 'grid', class: 'grid', 'aria-label': label, 'aria-readonly': 'true' }, this.head, this.scroller);
    place.replaceChildren(this.root);
    this.scroller.addEventListener('scroll', () => this.#queue());
    this.root.addEventListener('keydown', (event) => this.#key(event));
    this.root.addEventListener('focusin', (event) => this.#focused(event.target));
    this.root.addEventListener('click', (event) => this.#focused(event.target));
    new ResizeObserver(() => this.#resized()).observe(this.scroller);
  }

  // show shows other rows; the one with the key is made the active one.
  show(rows, columns, { order, activeKey, kind, label }) {
    this.#columns = columns;
    this.#order = order;
    this.#all = rows;
    this.#needle = '';
    this.root.className = `grid ${kind}`;
    this.root.setAttribute('aria-label', label);
    this.root.setAttribute('aria-colcount', columns.length);
    this.#drawHeader();
    this.#sort();
    this.#arrange(activeKey);
  }

  // filter leaves only rows whose name contains a text.
  filter(needle) {
    const key = this.active?.key;
    this.#needle = needle.toLowerCase();
    this.#arrange(key);
  }

  get length() {
    return this.#rows.length;
  }

  get active() {
    return this.#rows[this.#active];
  }

  get order() {
    return this.#order;
  }

  // rowOf returns the row that an element belongs to.
  rowOf(element) {
    return this.#rows[element.closest('[data-index]')?.dataset.index];
  }

  // focus moves the focus to the active row. It says whether there is one.
  focus() {
    if (this.#rows.length === 0) return false;
    this.#reveal();
    this.#draw();
    this.#drawn.get(this.#active)?.focus({ preventScroll: true });
    return true;
  }

  #sort() {
    const { column, down } = this.#order;
    const compare = this.#columns[column]?.compare; // there are no columns where there are no rows
    const sign = down ? -1 : 1;
    this.#all.sort((a, b) => (Boolean(b.first) - Boolean(a.first)) || sign * compare(a, b));
  }

  // arrange applies the filter and draws anew.
  #arrange(activeKey) {
    const needle = this.#needle;
    this.#rows = needle ? this.#all.filter((row) => row.name.toLowerCase().includes(needle)) : this.#all;
    this.#active = Math.max(0, this.#rows.findIndex((row) => row.key === activeKey));
    this.root.setAttribute('aria-rowcount', this.#rows.length + 1);
    this.root.hidden = this.#rows.length === 0;
    this.body.replaceChildren();
    this.#drawn.clear();
    this.#resized();
    this.#reveal();
    this.#draw();
    this.onActive(this.active);
  }

  #drawHeader() {
    this.header.replaceChildren(...this.#columns.map((column, i) => {
      const sorted = i === this.#order.column ? (this.#order.down ? 'descending' : 'ascending') : 'none';
      const cell = make('div', { role: 'columnheader', class: `cell ${column.key}`, 'aria-sort': column.compare && sorted });
      if (column.compare) cell.append(make('button', { type: 'button', text: column.label, click: () => this.#orderBy(i) }));
      else cell.append(make('span', { class: column.hidden && 'visually-hidden', text: column.label }));
      return cell;
    }));
  }

  // orderBy sorts by a column, and the other way round the second time.
  #orderBy(column) {
    const down = this.#order.column === column ? !this.#order.down : Boolean(this.#columns[column].down);
    this.#order = { column, down };
    this.#sort();
    this.#drawHeader();
    this.#arrange(this.active?.key);
    this.header.children[column].firstChild.focus();
  }

  // The height of a row is the style's, and differs between narrow and wide.
  #resized() {
    this.#rowHeight = Number.parseFloat(getComputedStyle(this.root).getPropertyValue('--row-height')) || 36;
    this.body.style.height = `${Math.min(this.#rows.length * this.#rowHeight, highest)}px`;
    this.head.style.paddingRight = `${this.scroller.offsetWidth - this.scroller.clientWidth}px`; // a scroll bar
    this.#draw();
  }

  // ratio is how much faster the rows move than the scroll bar.
  #ratio() {
    const view = this.scroller.clientHeight;
    const full = this.#rows.length * this.#rowHeight;
    return full <= highest ? 1 : (full - view) / (highest - view);
  }

  #queue() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.#draw();
    });
  }

  // draw makes elements for the rows in sight. The row with the focus stays even out of
  // sight: without it the focus would be lost.
  #draw() {
    const top = this.scroller.scrollTop;
    const virtualTop = top * this.#ratio();
    const first = Math.max(0, Math.floor(virtualTop / this.#rowHeight) - spare);
    const last = Math.min(this.#rows.length - 1, Math.ceil((virtualTop + this.scroller.clientHeight) / this.#rowHeight) + spare);
    for (const [i, element] of this.#drawn) {
      if ((i < first || i > last) && !element.contains(document.activeElement)) {
        element.remove();
        this.#drawn.delete(i);
      }
    }
    for (let i = first; i <= last; i++) {
      if (!this.#drawn.has(i)) this.#insert(i);
    }
    for (const [i, element] of this.#drawn) {
      element.style.transform = `translateY(${top + i * this.#rowHeight - virtualTop}px)`;
    }
  }

  // insert adds the element of a row where it belongs, because screen readers and Tab go
  // by the order of elements.
  #insert(i) {
    const row = this.#rows[i];
    const element = make('div', { role: 'row', class: 'row', 'aria-rowindex': i + 2, 'data-index': i },
      ...this.#columns.map((column, c) => make('div', { role: c === 0 ? 'rowheader' : 'gridcell', class: `cell ${column.key}` }, column.cell(row))));
    let next = null;
    for (let sibling = this.body.lastChild; sibling && Number(sibling.dataset.index) > i; sibling = sibling.previousSibling) next = sibling;
    this.body.insertBefore(element, next);
    this.#drawn.set(i, element);
    this.#setReachable(i, i === this.#active);
  }

  #setReachable(i, reachable) {
    const element = this.#drawn.get(i);
    if (!element) return;
    element.classList.toggle('active', reachable);
    for (const part of [element, ...element.querySelectorAll('a, button')]) part.tabIndex = reachable ? 0 : -1;
  }

  #focused(target) {
    const element = target.closest?.('[data-index]');
    if (element) this.#activate(Number(element.dataset.index));
  }

  #activate(i) {
    if (i === this.#active) return;
    this.#setReachable(this.#active, false);
    this.#active = i;
    this.#setReachable(i, true);
    this.onActive(this.active);
  }

  // reveal scrolls so that the active row is in sight.
  #reveal() {
    const ratio = this.#ratio();
    const view = this.scroller.clientHeight;
    const top = this.scroller.scrollTop * ratio;
    const want = this.#active * this.#rowHeight;
    if (want < top) this.scroller.scrollTop = want / ratio;
    else if (want + this.#rowHeight > top + view) this.scroller.scrollTop = Math.ceil((want + this.#rowHeight - view) / ratio);
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest('.header')) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.#rowHeight) - 1);
    const moves = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.#activate(Math.min(Math.max(this.#active + moves[event.key], 0), this.#rows.length - 1));
      this.focus();
    } else if (event.key === 'Backspace') {
      this.onUp();
    } else if (event.key === 'Enter' && event.target.getAttribute('role') === 'row') {
      this.onOpen(this.active); // on a link or a button Enter is theirs
    } else {
      return;
    }
    event.preventDefault();
  }
}
