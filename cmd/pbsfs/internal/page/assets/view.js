// Looking at a file in place.

import { failure, send } from './api.js';
import { byId, make, setText } from './dom.js';
import { size as sizeText, visible, visibleLines } from './text.js';

const mostText = 1 << 20;
const mostPicture = 16 << 20;

// pictures are recognised by how they begin, never by what a name or a server says.
const pictures = [
  { type: 'image/png', begins: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] },
  { type: 'image/jpeg', begins: [0xff, 0xd8, 0xff] },
  { type: 'image/gif', begins: [0x47, 0x49, 0x46, 0x38] },
  { type: 'image/webp', begins: [0x52, 0x49, 0x46, 0x46], then: { at: 8, bytes: [0x57, 0x45, 0x42, 0x50] } },
];

let shown = null; // {abort, url} of what is shown

export function setUpViewer() {
  byId('close-viewer').addEventListener('click', () => closeViewer());
  byId('viewer').addEventListener('close', () => {
    if (!byId('viewer').open) forget(); // the event comes later: another file may be shown by then
  });
}

export function closeViewer() {
  byId('viewer').close();
}

// view shows the file at an address.
export async function view(name, url) {
  forget();
  const mine = shown = { abort: new AbortController(), url: null };
  setText(byId('viewer-title'), visible(name));
  byId('viewer-download').href = url;
  byId('viewer-body').replaceChildren();
  setText(byId('viewer-note'), 'Loading…');
  byId('viewer').showModal();
  byId('viewer-title').focus();
  try {
    await load(url, name, mine);
  } catch (err) {
    if (shown === mine) setText(byId('viewer-note'), visible(err.message));
  }
}

// forget gives up what is loaded, and the memory of a picture.
function forget() {
  shown?.abort.abort();
  if (shown?.url) URL.revokeObjectURL(shown.url);
  shown = null;
  byId('viewer-body').replaceChildren();
}

async function load(url, name, mine) {
  let { bytes, total } = await fetchUpTo(url, mostText, mine.abort.signal);
  const picture = pictures.find((p) => isPicture(p, bytes));
  if (picture && (total ?? mostPicture + 1) > bytes.length) ({ bytes, total } = await fetchUpTo(url, mostPicture, mine.abort.signal));
  if (shown !== mine) return;
  const cut = total === null || total > bytes.length;
  if (!picture) showText(bytes, cut, total);
  else if (cut) setText(byId('viewer-note'), `This picture is larger than ${sizeText(mostPicture)}. Download it to see it.`);
  else showPicture(bytes, picture.type, name, mine);
}

// fetchUpTo returns the first bytes of a file, and how long it is: null if that is not
// known and there is more. The server may give more than it was asked for.
async function fetchUpTo(url, most, signal) {
  const response = await send(url, { headers: { Range: `bytes=0-${most - 1}` }, signal });
  if (response.status === 416) return { bytes: new Uint8Array(), total: 0 }; // an empty file has no range
  if (!response.ok) throw await failure(response);
  const parts = [];
  let length = 0;
  let ended = false;
  const reader = response.body.getReader();
  while (length < most) {
    const { done, value } = await reader.read();
    ended = done;
    if (done) break;
    parts.push(value);
    length += value.length;
  }
  reader.cancel().catch(() => {});
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, most);
  return { bytes, total: totalOf(response) ?? (ended ? length : null) };
}

// totalOf returns how long the whole file is, as far as the response tells.
function totalOf(response) {
  const range = /\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '');
  if (range) return Number(range[1]);
  const length = response.headers.get('Content-Length');
  return response.status === 200 && length && !response.headers.get('Content-Encoding') ? Number(length) : null;
}

function isPicture({ begins, then }, bytes) {
  const has = (at, wanted) => wanted.every((b, i) => bytes[at + i] === b);
  return has(0, begins) && (!then || has(then.at, then.bytes));
}

function showPicture(bytes, type, name, mine) {
  mine.url = URL.createObjectURL(new Blob([bytes], { type }));
  const picture = make('img', { alt: visible(name), src: mine.url });
  picture.addEventListener('load', () => setText(byId('viewer-note'), `${picture.naturalWidth} × ${picture.naturalHeight}, ${sizeText(bytes.length)}`));
  picture.addEventListener('error', () => setText(byId('viewer-note'), 'This begins like a picture, but the browser cannot show it.'));
  byId('viewer-body').replaceChildren(picture);
}

function showText(bytes, cut, total) {
  const text = textOf(bytes, cut);
  if (text === null) {
    setText(byId('viewer-note'), 'This is not text, and not a picture that can be shown. Download it instead.');
    return;
  }
  byId('viewer-body').replaceChildren(make('pre', { text: visibleLines(text) }));
  const whole = total === null ? '' : ` of ${sizeText(total)}`;
  if (cut) setText(byId('viewer-note'), `Only the first ${sizeText(bytes.length)}${whole} are shown.`);
  else setText(byId('viewer-note'), bytes.length === 0 ? 'The file is empty.' : sizeText(bytes.length));
}

// textOf returns bytes as text, or null if they are something else. Where a file was cut,
// the last letter may be incomplete.
function textOf(bytes, cut) {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: cut });
  } catch {
    return null;
  }
}
