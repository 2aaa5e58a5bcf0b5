// Values as text.

// invisible are characters that reorder, hide or break a line of text: controls, marks
// and overrides of writing direction, and blanks without width. Joiners are left alone;
// scripts and emoji need them.
const invisible = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

// visible returns a name, or another text from outside, with such characters replaced by
// their code points.
export function visible(text) {
  return String(text ?? '').replace(invisible, codePoint);
}

// visibleLines is visible for the content of a file, where lines and tabs are as usual.
export function visibleLines(text) {
  return text.replaceAll('\r\n', '\n').replace(invisible, (c) => (c === '\n' || c === '\t' ? c : codePoint(c)));
}

function codePoint(c) {
  return `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`;
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

// size returns bytes with three digits and a unit, or a dash if it is not known.
export function size(bytes) {
  if (typeof bytes !== 'number') return '–';
  let unit = 0;
  while (bytes >= 1023.5 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  const digits = unit === 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return `${bytes.toFixed(digits)} ${units[unit]}`;
}

// count returns a number and what is counted: "1 file", "2,000 files".
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}

// time returns seconds since 1970 as the local date and time.
export function time(seconds) {
  if (typeof seconds !== 'number') return '–';
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return `${seconds} s`; // of a file with a time that no calendar has
  const two = (n) => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// utc returns seconds since 1970 as snapshots are named.
export function utc(seconds) {
  const at = new Date(seconds * 1000);
  return Number.isNaN(at.getTime()) ? String(seconds) : at.toISOString().replace('.000Z', 'Z');
}

// age returns a number of seconds in its two largest units.
export function age(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const natural = new Intl.Collator('en', { numeric: true });

// byName compares names as people do: file2 before file10.
export function byName(a, b) {
  return natural.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
}
