// Going through the contents of a datastore.

import { byId, make, setText } from './dom.js';
import { badgeClass } from './card.js';
import { directoryDownloads, keyOf, load, shownName } from './levels.js';
import { List } from './list.js';
import { format, parent, textOf } from './route.js';
import { maySee } from './session.js';
import { count, utc, visible } from './text.js';
import { view } from './view.js';

// Browse shows one place.
export class Browse {
  #live;
  #place = null;
  #loading = null; // of the place that is asked for
  #level = null;
  #failed = false;
  #activeKeys = new Map(); // where somebody was, by address
  #orders = new Map(); // how somebody had it sorted, by kind of level
  #list;

  constructor(live) {
    this.#live = live;
    this.#list = new List(byId('list'), {
      label: 'Contents',
      onOpen: (row) => this.#open(row),
      onUp: () => { location.hash = format(parent(this.#place)); },
      onActive: (row) => this.#selected(row),
    });
    byId('list').addEventListener('click', (event) => this.#clicked(event));
    byId('filter').addEventListener('input', () => this.#filter());
    byId('filter').addEventListener('keydown', (event) => {
      if (event.key === 'ArrowDown' && this.#list.focus()) event.preventDefault();
    });
    byId('reload').addEventListener('click', () => this.#load(false));
    live.addEventListener('connection', () => this.#mend());
    live.addEventListener('datastore', ({ detail }) => {
      if (detail.now.datastore !== this.#place?.store) return;
      this.#showMode();
      if (detail.before?.mode !== detail.now.mode) this.#mend();
    });
  }

  // show goes to a place. With focus, it gets the focus when it is there.
  show(place, focus) {
    const from = this.#place;
    this.#place = place;
    this.#level = null;
    if (from && !this.#activeKeys.has(format(place)) && format(parent(from) ?? {}) === format(place)) {
      this.#activeKeys.set(format(place), keyOf(from));
    }
    this.#showPlace();
    this.#load(focus);
  }

  // hide forgets what is shown; what is loading is given up.
  hide() {
    this.#loading?.abort();
    this.#place = null;
  }

  // mend tries once more what failed, when there is reason to hope.
  #mend() {
    if (this.#place && this.#failed && this.#live.connected) this.#load(false);
  }

  async #load(focus) {
    this.#loading?.abort();
    const mine = this.#loading = new AbortController();
    byId('browse').setAttribute('aria-busy', 'true');
    if (!this.#level) this.#showNothing();
    setText(byId('count'), 'Loading…');
    try {
      const level = await load(this.#place, mine.signal);
      if (mine !== this.#loading || !this.#place) return;
      this.#failed = false;
      this.#showLevel(level);
    } catch (err) {
      if (mine !== this.#loading || err.name === 'AbortError' || err.status === 401) return;
      this.#failed = true;
      this.#level = null;
      this.#showNothing();
      this.#showNotes([{ kind: 'error', text: visible(err.message) }]);
      setText(byId('count'), '');
    }
    byId('browse').removeAttribute('aria-busy');
    if (focus && !this.#list.focus()) byId('place').focus();
  }

  #showPlace() {
    const crumbs = crumbsOf(this.#place);
    byId('crumbs').replaceChildren(...crumbs.map(({ name, to }, i) => make('li', {},
      i === crumbs.length - 1 ? make('span', { class: 'name', 'aria-current': 'page', text: name }) : make('a', { class: 'name', href: format(to), text: name }))));
    setText(byId('place'), crumbs.at(-1).name);
    document.title = `${crumbs.slice(1).map(({ name }) => name).reverse().join(' – ')} – pbsfs`;
    this.#showDownloads();
    this.#showMode();
  }

  #showDownloads() {
    const links = this.#place.path && maySee() ? directoryDownloads(this.#place) : [];
    byId('place-actions').replaceChildren(...links.map(({ label, href }) =>
      make('a', { class: 'button', href, download: true, 'aria-label': `${label}: download all that is in here`, text: label })));
    if (links.length > 0) byId('place-actions').prepend('Download as');
  }

  // showMode shows the mode of the datastore beside the place.
  #showMode() {
    const status = this.#live.stores.get(this.#place.store);
    document.getElementById('place-mode')?.remove();
    if (!status?.mode) return;
    byId('place').after(make('span', { id: 'place-mode', class: `badge ${badgeClass(status.mode)}`, text: visible(status.mode) }));
  }

  #showNothing() {
    byId('browse-notes').replaceChildren();
    byId('filter').value = '';
    this.#list.show([], [], { kind: 'nothing', label: 'Contents', order: { column: 0, down: false } });
  }

  #showLevel(level) {
    const again = this.#level !== null; // the same place, loaded anew: the filter stays
    this.#level = level;
    this.#showNotes(level.notes);
    if (!again) byId('filter').value = '';
    this.#list.show(level.rows, level.columns, {
      kind: level.kind,
      label: `Contents of ${byId('place').textContent}`,
      order: this.#orders.get(level.kind) ?? level.order,
      activeKey: this.#activeKeys.get(format(this.#place)),
    });
    this.#filter();
  }

  #showNotes(notes) {
    byId('browse-notes').replaceChildren(...notes.map(({ kind, text }) => make('p', { class: kind, role: kind === 'error' ? 'alert' : null, text })));
  }

  #filter() {
    if (!this.#level) return;
    this.#list.filter(byId('filter').value);
    const all = this.#level.rows.length;
    const some = this.#list.length;
    setText(byId('count'), some === all ? count(all, ...this.#level.what) : `${some.toLocaleString('en')} of ${count(all, ...this.#level.what)}`);
  }

  // selected is called when another row is the active one. Its name may be cut in its
  // row; below the list there is room for it.
  #selected(row) {
    if (!this.#level || !row) {
      setText(byId('selected'), '');
      return;
    }
    this.#activeKeys.set(format(this.#place), row.key);
    this.#orders.set(this.#level.kind, this.#list.order);
    setText(byId('selected'), [row.name + (row.target ? ` → ${row.target}` : ''), row.comment, row.problem].filter(Boolean).map(visible).join(' – '));
  }

  #open(row) {
    if (row?.to) location.hash = format(row.to);
    else if (row?.view) view(row.name, row.view);
  }

  #clicked(event) {
    if (event.target.closest('[data-view]')) this.#open(this.#list.rowOf(event.target));
  }
}

// crumbsOf returns the places on the way to a place, with their names.
function crumbsOf(place) {
  const crumbs = [];
  for (let at = place; at; at = parent(at)) crumbs.unshift({ name: visible(nameOf(at)), to: at });
  return crumbs;
}

function nameOf(place) {
  if (place.store === undefined) return 'Datastores';
  if (place.path) return place.path.length === 1 ? shownName(textOf(place.path[0])) : textOf(place.path.at(-1));
  if (place.time !== undefined) return utc(place.time);
  if (place.id !== undefined) return `${place.type}/${place.id}`;
  return place.ns ? place.ns.split('/').at(-1) : place.store;
}
