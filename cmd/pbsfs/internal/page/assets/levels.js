// What there is at a place: the calls that list it, and what becomes of their answers.
//
// A level is {kind, what, columns, order, rows, notes}: rows and columns as list.js wants
// them, "what" the words for one row and for many, notes to be shown above the rows.

import { address, get } from './api.js';
import { icon, make } from './dom.js';
import { filepath, format, pathOf, snapshotParams } from './route.js';
import { maySee } from './session.js';
import { byName, size, time, utc, visible } from './text.js';

// load lists a place in a datastore.
export function load(place, signal) {
  if (place.path) return entries(place, signal);
  if (place.time !== undefined) return archives(place, signal);
  if (place.id !== undefined) return snapshots(place, signal);
  return groups(place, signal);
}

// keyOf returns the key that a place has as a row of the place above.
export function keyOf(place) {
  if (place.path) return place.path.at(-1);
  if (place.time !== undefined) return String(place.time);
  if (place.id !== undefined) return `group ${place.type}/${place.id}`;
  return `ns ${place.ns}`;
}

// shownName returns what an archive is called in the trees of pbsfs, from its stored name.
export function shownName(stored) {
  return stored.replace(/\.mpxar\.didx$/, '.pxar').replace(/\.[df]idx$/, '');
}

// directoryDownloads returns links for a directory in an archive.
export function directoryDownloads(place) {
  const params = { ...snapshotParams(place), filepath: filepath(place.path) };
  const path = ['admin', 'datastore', place.store, 'pxar-file-download'];
  return [{ label: 'zip', href: address(path, params) }, { label: 'tar.zst', href: address(path, { ...params, tar: 1 }) }];
}

async function groups(place, signal) {
  const at = ['admin', 'datastore', place.store];
  const [namespaces, found] = await Promise.all([
    get([...at, 'namespace'], {}, signal),
    get([...at, 'groups'], { ns: place.ns }, signal),
  ]);
  return {
    kind: 'groups',
    what: ['entry', 'entries'],
    columns: [nameColumn, numberColumn('Snapshots', (row) => row.count), timeColumn('Last backup'), noteColumn('Owner')],
    order: { column: 0, down: false },
    rows: [...childrenOf(place, namespaces.data), ...found.data.map((group) => groupRow(place, group))],
    notes: [],
  };
}

// childrenOf returns rows for the namespaces right below a place, also those of which
// only something deeper is listed.
function childrenOf(place, namespaces) {
  const prefix = place.ns ? `${place.ns}/` : '';
  const names = new Set(namespaces.map(({ ns }) => ns)
    .filter((ns) => ns !== '' && ns.startsWith(prefix)).map((ns) => ns.slice(prefix.length).split('/')[0]));
  return [...names].map((name) => row({ store: place.store, ns: prefix + name }, { kind: 'namespace', name, first: true }));
}

function groupRow({ store, ns }, group) {
  const to = { store, ns, type: group['backup-type'], id: group['backup-id'] };
  return row(to, { kind: 'group', name: `${to.type}/${to.id}`, count: group['backup-count'], time: group['last-backup'],
    note: group.owner, comment: group.comment });
}

async function snapshots(place, signal) {
  const { data } = await get(['admin', 'datastore', place.store, 'snapshots'],
    { ns: place.ns, 'backup-type': place.type, 'backup-id': place.id }, signal);
  return {
    kind: 'snapshots',
    what: ['snapshot', 'snapshots'],
    columns: [{ ...nameColumn, label: 'Snapshot', down: true }, sizeColumn, timeColumn('Local time'), noteColumn('Notes')],
    order: { column: 0, down: true },
    rows: data.map((snapshot) => {
      const at = snapshot['backup-time'];
      return row({ ...place, time: at }, { kind: 'snapshot', name: utc(at), size: snapshot.size, time: at,
        note: snapshotNotes(snapshot), comment: snapshot.comment });
    }),
    notes: [],
  };
}

function snapshotNotes({ protected: kept, verification, files }) {
  const notes = [];
  if (kept) notes.push('protected');
  if (files?.some((file) => file['crypt-mode'] === 'encrypt')) notes.push('encrypted');
  if (verification) notes.push(verification.state === 'ok' ? 'verified' : `verification ${verification.state}`);
  return notes.join(', ');
}

async function archives(place, signal) {
  const { data } = await get(['admin', 'datastore', place.store, 'files'], snapshotParams(place), signal);
  return {
    kind: 'archives',
    what: ['archive', 'archives'],
    columns: [{ ...nameColumn, label: 'Archive' }, sizeColumn, noteColumn('Protection'), actionColumn],
    order: { column: 0, down: false },
    rows: joined(data).map((file) => archiveRow(place, file)),
    notes: maySee() ? [] : [{ kind: 'notice', text: 'Your login has the role audit. It sees which snapshots there are, but not what is in them.' }],
  };
}

// joined makes one of the two files of an archive that was stored split.
function joined(files) {
  const payload = (name) => name.replace(/\.mpxar\.didx$/, '.ppxar.didx');
  const sizes = new Map(files.map((file) => [file.filename, file.size]));
  const parts = new Set(files.map((file) => file.filename).filter((name) => payload(name) !== name).map(payload));
  return files.filter((file) => !parts.has(file.filename)).map((file) =>
    payload(file.filename) === file.filename ? file : { ...file, size: sum(file.size, sizes.get(payload(file.filename))) });
}

function sum(a, b) {
  return typeof a === 'number' && typeof b === 'number' ? a + b : a;
}

function archiveRow(place, file) {
  const stored = file.filename;
  const isTree = /\.m?pxar\.didx$/.test(stored);
  const fields = { key: stored, kind: isTree ? 'archive' : 'file', name: file.shown ?? shownName(stored), size: file.size,
    note: { encrypt: 'encrypted', 'sign-only': 'signed' }[file['crypt-mode']] ?? '', problem: file.problem };
  if (!maySee() || file.problem) return row(null, fields);
  const to = { ...place, path: [stored] };
  if (isTree) {
    return row(to, { ...fields, downloads: directoryDownloads(to) });
  }
  const href = address(['admin', 'datastore', place.store, 'download-decoded'], { ...snapshotParams(place), 'file-name': stored });
  // One can look for files on the image of a disk, too.
  return row(stored.endsWith('.img.fidx') ? to : null,
    { ...fields, view: stored.endsWith('.blob') ? href : null, downloads: [{ label: 'Download', href }] });
}

async function entries(place, signal) {
  if (!maySee()) {
    return { kind: 'entries', what: ['entry', 'entries'], columns: [nameColumn], order: { column: 0, down: false }, rows: [],
      notes: [{ kind: 'notice', text: 'Your login has the role audit. It does not see what is in archives.' }] };
  }
  const { data, incomplete } = await get(['admin', 'datastore', place.store, 'catalog'],
    { ...snapshotParams(place), filepath: filepath(place.path) }, signal);
  return {
    kind: 'entries',
    what: ['entry', 'entries'],
    columns: [nameColumn, sizeColumn, timeColumn('Modified'), actionColumn],
    order: { column: 0, down: false },
    rows: data.map((entry) => entryRow(place, entry)),
    notes: incomplete ? [{ kind: 'warning', text: `This listing is not complete: ${visible(incomplete)}` }] : [],
  };
}

const kinds = { d: 'directory', f: 'file', h: 'file', l: 'link' };

function entryRow(place, entry) {
  const to = { ...place, path: pathOf(entry.filepath) };
  const kind = kinds[entry.type] ?? 'other';
  const fields = { key: keyOf(to), kind, name: entry.text, first: kind === 'directory', size: entry.size, time: entry.mtime,
    target: entry.target, problem: entry.problem };
  if (entry.problem) return row(null, fields);
  if (kind === 'directory') return row(to, { ...fields, downloads: () => directoryDownloads(to) });
  if (kind !== 'file') return row(null, fields);
  const href = address(['admin', 'datastore', place.store, 'pxar-file-download'], { ...snapshotParams(place), filepath: entry.filepath });
  return row(null, { ...fields, view: href, downloads: [{ label: 'Download', href }] });
}

// row returns a row, which leads to a place if there is one.
function row(to, fields) {
  return { key: to && keyOf(to), to, ...fields };
}

const nameColumn = {
  key: 'name',
  label: 'Name',
  compare: (a, b) => byName(a.name, b.name),
  cell: (row) => {
    const name = visible(row.name);
    const line = make('span', { class: 'name', title: name });
    line.append(row.to ? make('a', { href: format(row.to), text: name }) : name);
    if (row.target) line.append(make('span', { class: 'aside', text: ` → ${visible(row.target)}` }));
    if (row.comment) line.append(make('span', { class: 'aside', text: ` ${visible(row.comment.split('\n')[0])}` }));
    if (row.problem) line.append(make('span', { class: 'problem', text: ` ${visible(row.problem)}` }));
    return make('span', { class: 'name-line' }, icon(row.kind), line);
  },
};

const sizeColumn = { key: 'size', label: 'Size', down: true, compare: (a, b) => known(a.size) - known(b.size), cell: (row) =>
  (typeof row.size === 'number' ? make('span', { title: `${row.size.toLocaleString('en')} bytes`, text: size(row.size) }) : '') };

const actionColumn = { key: 'actions', label: 'Actions', hidden: true, cell: actions };

function numberColumn(label, value) {
  return { key: 'size', label, down: true, compare: (a, b) => known(value(a)) - known(value(b)), cell: (row) => value(row)?.toLocaleString('en') ?? '' };
}

function timeColumn(label) {
  return { key: 'time', label, down: true, compare: (a, b) => known(a.time) - known(b.time), cell: (row) =>
    (typeof row.time === 'number' ? timeCell(row.time) : '') };
}

// timeCell shows a time. Where there is little room, only the day is shown.
function timeCell(seconds) {
  const [day, ...clock] = time(seconds).split(' ');
  return make('time', { datetime: utc(seconds), title: utc(seconds) }, day, make('span', { class: 'clock', text: ` ${clock.join(' ')}` }));
}

function noteColumn(label) {
  return { key: 'note', label, compare: (a, b) => byName(a.note ?? '', b.note ?? ''), cell: (row) => visible(row.note) };
}

// known puts what is not known below everything.
function known(n) {
  return typeof n === 'number' ? n : -Number.MAX_VALUE;
}

// actions are what can be done with a row. Their names begin with what is seen of them.
function actions(row) {
  const name = visible(row.name);
  const part = make('span', { class: 'links' });
  if (row.view) part.append(make('button', { type: 'button', class: 'link', 'data-view': true, 'aria-label': `View ${name}`, text: 'View' }));
  for (const { label, href } of downloadsOf(row)) {
    part.append(make('a', { href, download: true, 'aria-label': `${label}: ${name}`, text: label }));
  }
  return part;
}

// downloadsOf returns the links of a row. Those of directories are made when they are
// looked at: a listing may be long.
function downloadsOf({ downloads }) {
  return (typeof downloads === 'function' ? downloads() : downloads) ?? [];
}
