// Who has what open: the tables of a datastore's card, of a refusal, and of a drain.

import { make, table } from './dom.js';
import { age, visible } from './text.js';

// waitsFor returns the processes that a datastore's mode forbids and that are active
// still: while there are some, the mode drains.
export function waitsFor(status) {
  return status.processes.filter((p) => inTheWay(status.mode, p));
}

function inTheWay(mode, { read, write }) {
  if (mode === 'offline') return read + write > 0;
  return mode === 'read-only' && write > 0;
}

// since shows how old something is. tick keeps it up to date.
function since(at) {
  if (!Number.isFinite(at)) return '–';
  return make('time', { datetime: new Date(at).toISOString(), 'data-since': at, text: age((Date.now() - at) / 1000) });
}

// tick lets all ages that are shown go on.
export function tick() {
  for (const element of document.querySelectorAll('time[data-since]')) {
    const text = age((Date.now() - Number(element.dataset.since)) / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
}

export function processTable(caption) {
  const view = table(caption, [{ label: 'Process', name: true }, { label: 'PID', number: true },
    { label: 'Reads', number: true }, { label: 'Writes', number: true }]);
  return { root: view.root, update: (all) => view.update(all.map((p) =>
    [visible(p.name) || 'unknown', String(p.pid), p.read.toLocaleString('en'), p.write.toLocaleString('en')])) };
}

// handleTable shows open files. Their ages are as of the time when they were received, in
// milliseconds.
export function handleTable(caption) {
  const view = table(caption, [{ label: 'File', name: true }, { label: 'Open in', name: true }, { label: 'PID', number: true },
    { label: 'How' }, { label: 'For' }]);
  return { root: view.root, update: (all, received) => view.update(all.map((f) =>
    [visible(f.path), visible(f.name) || 'unknown', f.pid ? String(f.pid) : '–', visible(f.how),
      typeof f.age_s === 'number' ? since(received - f.age_s * 1000) : '–'])) };
}

export function mountTable(caption) {
  const view = table(caption, [{ label: 'Mounted on', name: true }, { label: 'PID', number: true }, { label: 'For' }, { label: 'Note' }]);
  return { root: view.root, update: (all) => view.update(all.map((m) =>
    [visible(m.mountpoint), m.pid ? String(m.pid) : '–', since(Date.parse(m.since)), noteOf(m)])) };
}

function noteOf(m) {
  const notes = [];
  if (m.untracked) notes.push('not counted');
  if (m.elsewhere) notes.push('of another host or run directory');
  if (m.taken_away) notes.push('taken away while in use');
  if (m.unlisted) notes.push('no longer configured');
  if (m.away) notes.push(visible(m.away));
  return notes.join('; ');
}

export function lockTable(caption) {
  const view = table(caption, [{ label: 'Snapshot', name: true }, { label: 'Read through', name: true }, { label: 'For' }]);
  return { root: view.root, update: (all) => view.update(all.map((l) =>
    [visible(l.snapshot), visible(l.mountpoint), since(Date.parse(l.since))])) };
}
