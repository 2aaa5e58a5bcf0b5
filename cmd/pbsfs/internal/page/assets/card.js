// One datastore in the list of datastores.

import { make, setText } from './dom.js';
import { handleTable, lockTable, mountTable, processTable, waitsFor } from './holders.js';
import { format } from './route.js';
import { count, size, time, visible } from './text.js';

// Card shows a datastore. What it is made of stays; an update changes texts and rows, so
// that neither focus nor place is lost when something happens.
export class Card {
  constructor(name, { onMaintenance, onGiveUp }) {
    const title = visible(name);
    this.badge = make('span', { class: 'badge' });
    this.maintenance = make('button', { type: 'button', hidden: true, 'aria-label': `Maintenance of ${title}`, text: 'Maintenance', click: onMaintenance });
    this.message = make('p', { class: 'message' });
    this.drainText = make('p');
    this.drain = make('div', { class: 'warning', hidden: true }, this.drainText,
      make('button', { type: 'button', text: 'Give up', 'aria-label': `Give up: clear the mode of ${title}`, click: onGiveUp }));
    this.usage = make('meter', { min: 0, max: 1, high: 0.9, low: 0.75, optimum: 0, value: 0, 'aria-label': `Usage of ${title}` });
    this.usageText = make('span', { text: '–' });
    this.facts = make('dl', { class: 'facts' });
    this.path = this.#fact('Path');
    this.comment = this.#fact('Comment');
    this.device = this.#fact('Device');
    this.#fact('Usage').append(make('span', { class: 'usage' }, this.usage, this.usageText));
    this.idle = make('p', { class: 'idle', text: 'Nothing is open.' });
    this.problems = make('ul', { class: 'problems' });
    this.problemsPart = make('div', { class: 'part warning' }, make('h3', { text: 'Problems' }), this.problems);
    this.handles = handleTable('Open files');
    this.processes = processTable('Active operations');
    this.mounts = mountTable('Mounts');
    this.locks = lockTable('Locked snapshots');
    this.parts = Object.fromEntries(['handles', 'processes', 'mounts', 'locks'].map((part) =>
      [part, make('div', { class: `part ${part}`, hidden: true }, this[part].root)]));
    this.title = make('a', { href: format({ store: name }), text: title });
    this.actions = make('div', { class: 'actions' },
      make('a', { class: 'button', href: format({ store: name }), 'aria-label': `Browse ${title}`, text: 'Browse' }), this.maintenance);
    this.root = make('article', { class: 'card', 'aria-label': title, 'data-store': name },
      make('div', { class: 'card-head' },
        make('h2', { class: 'name' }, this.title), this.badge, this.actions),
      this.message, this.drain, this.problemsPart, this.facts, this.idle,
      this.parts.handles, make('div', { class: 'pair' }, this.parts.processes, this.parts.mounts), this.parts.locks);
  }

  // fact adds an entry to the facts, which is hidden while it is empty.
  #fact(label) {
    const value = make('dd', { class: 'name' });
    this.facts.append(make('div', {}, make('dt', { text: label }), value));
    return value;
  }

  // update shows a status. mayChange says whether modes can be changed.
  update(status, mayChange) {
    const mode = status.mode ?? 'available';
    setText(this.badge, visible(mode));
    this.badge.className = `badge ${badgeClass(status.mode)}`;
    setText(this.message, messageOf(status));
    this.message.hidden = this.message.textContent === '';
    this.maintenance.hidden = !mayChange;
    fill(this.path, visible(status.path));
    fill(this.device, deviceText(status.device));
    this.#updateDrain(status, mayChange);
    this.#updateProblems(status.problems);
    const active = status.processes.filter((p) => p.read + p.write > 0);
    this.idle.hidden = status.handles.length + active.length > 0;
    this.#part('handles', status.handles, status.received);
    this.#part('processes', active);
    this.#part('mounts', status.mounts);
    this.#part('locks', status.locked_snapshots);
  }

  #part(name, rows, received) {
    this[name].update(rows, received);
    this.parts[name].hidden = rows.length === 0;
  }

  #updateDrain(status, mayChange) {
    const waiting = waitsFor(status);
    this.drain.hidden = waiting.length === 0;
    this.drain.lastChild.hidden = !mayChange;
    setText(this.drainText, waiting.length === 0 ? ''
      : `${status.mode} is set. It still waits for ${count(waiting.length, 'process', 'processes')}.`);
  }

  #updateProblems(problems) {
    this.problems.replaceChildren(...problems.map((p) => make('li', {},
      make('time', { datetime: p.time, text: time(Date.parse(p.time) / 1000) }), ' ', visible(p.text))));
    this.problemsPart.hidden = problems.length === 0;
  }

  // describe shows what the list of datastores adds to the status.
  describe({ comment }) {
    fill(this.comment, visible(comment));
  }

  // elsewhere says that the datastore is mounted on this host, and not one that this server
  // can look into.
  elsewhere() {
    this.actions.hidden = true;
    this.title.removeAttribute('href');
    this.showUsage(null, 'not known: it is mounted here, and not among the datastores of this server');
  }

  // showUsage shows used and total bytes, or why they are not known.
  showUsage(usage, why) {
    this.usage.hidden = !usage;
    setText(this.usageText, usage ? `${size(usage.used)} of ${size(usage.total)}, ${size(usage.avail)} free` : why);
    if (usage) this.usage.value = usage.total > 0 ? usage.used / usage.total : 0;
  }
}

export function badgeClass(mode) {
  if (!mode) return 'good';
  return mode === 'read-only' ? 'fair' : 'bad';
}

// messageOf returns why a datastore is in its mode, as far as it is known.
export function messageOf(status) {
  const parts = [];
  if (status.message) parts.push(`“${visible(status.message)}”`);
  if (status.via) parts.push(`The mode is that of ${visible(status.via)}.`);
  return parts.join(' ');
}

function deviceText(device) {
  if (!device) return '';
  const at = device.mounted_at ? `mounted on ${device.mounted_at}` : '';
  return visible([device.device || device.uuid, device.state, at].filter(Boolean).join(', '));
}

function fill(value, text) {
  setText(value, text);
  value.parentElement.hidden = text === '';
}
