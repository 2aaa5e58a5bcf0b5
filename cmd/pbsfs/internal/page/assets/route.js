// Places, and how they are written in the address.
//
// A place is the list of datastores, {}, or something in a datastore:
//
//   {store, ns, type, id, time, path}
//
// where each field needs those before it, but ns, which is '' for the root namespace. Path
// is what follows the snapshot: the stored name of an archive, then names of directories.
// Names in archives are bytes and need not be UTF-8, so the parts of path are strings with
// one character for each byte, as atob gives them. In the address everything but plain
// letters and digits is escaped byte by byte:
//
//   #/store/tank/ns/prod%2Fdb/host/alpha/1700000000/root.pxar.didx/etc

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// bytesOf returns the UTF-8 of a text, one character for each byte.
function bytesOf(text) {
  return String.fromCharCode(...encoder.encode(text));
}

// textOf returns the text of bytes, with a mark for what is not UTF-8.
export function textOf(bytes) {
  return decoder.decode(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
}

function escape(bytes) {
  return bytes.replace(/[^A-Za-z0-9._~-]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

function unescape(text) {
  return text.replace(/[^\0-\x7f]+/g, bytesOf)
    .replace(/%([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
}

// format returns a place as it is written in the address.
export function format(place) {
  if (place.store === undefined) return '#/';
  const parts = ['store', bytesOf(place.store)];
  if (place.ns) parts.push('ns', bytesOf(place.ns));
  for (const field of ['type', 'id', 'time']) {
    if (place[field] !== undefined) parts.push(bytesOf(String(place[field])));
  }
  return `#/${[...parts, ...(place.path ?? [])].map(escape).join('/')}`;
}

// parse returns the place that an address names. What makes no sense is the list of
// datastores.
export function parse(hash) {
  const parts = hash.replace(/^#\/?/, '').split('/').filter((part) => part !== '').map(unescape);
  if (parts.shift() !== 'store' || parts.length === 0) return {};
  const place = { store: textOf(parts.shift()), ns: '' };
  if (parts[0] === 'ns' && parts.length > 1) place.ns = textOf(parts.splice(0, 2)[1]);
  if (parts.length < 2) return place; // a type alone is no place
  place.type = textOf(parts.shift());
  place.id = textOf(parts.shift());
  if (parts.length === 0) return place;
  place.time = Number(parts.shift());
  if (!Number.isSafeInteger(place.time)) return { store: place.store, ns: place.ns, type: place.type, id: place.id };
  if (parts.length > 0) place.path = parts;
  return place;
}

// parent returns the place above, or null above everything.
export function parent(place) {
  if (place.store === undefined) return null;
  if (place.path) {
    const path = place.path.slice(0, -1);
    return { ...place, path: path.length > 0 ? path : undefined };
  }
  const { store, ns, type, id, time } = place;
  if (time !== undefined) return { store, ns, type, id };
  if (id !== undefined) return { store, ns };
  if (ns) return { store, ns: ns.split('/').slice(0, -1).join('/') };
  return {};
}

// snapshotParams names the snapshot of a place to the server.
export function snapshotParams({ ns, type, id, time }) {
  return { ns, 'backup-type': type, 'backup-id': id, 'backup-time': time };
}

// filepath returns a path as the server wants it.
export function filepath(path) {
  return btoa(`/${path.join('/')}`);
}

// pathOf returns the path that the server gives.
export function pathOf(filepath) {
  return atob(filepath).split('/').filter((part) => part !== '');
}
