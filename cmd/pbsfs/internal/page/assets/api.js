// Calls to the server.

const base = '/api2/json/';

// Failure is an answer that says no. data is what comes with a refusal.
export class Failure extends Error {
  constructor(status, message, data) {
    super(message);
    this.status = status;
    this.data = data;
  }
}

// Unreachable is no answer at all.
export class Unreachable extends Error {}

// happenings tells those who care about the whole session: "unauthorized" when it is
// gone, "unreachable" when a call got no answer.
export const happenings = new EventTarget();

// csrf proves that a change comes from this page.
let csrf = '';

export function setCSRF(value) {
  csrf = value ?? '';
}

// address returns the address of a call. Parts of the path are given one by one, because
// names in it must not become more than one part.
export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') query.set(name, value);
  }
  const text = query.toString();
  return base + path.map(encodeURIComponent).join('/') + (text && `?${text}`);
}

// get returns the whole answer: beside data there may be more.
export function get(path, params, signal) {
  return call(address(path, params), { signal });
}

// change sends a change.
export function change(method, path, body) {
  return call(address(path), {
    method,
    headers: { 'Content-Type': 'application/json', CSRFPreventionToken: csrf },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

// send makes a request and returns the response of the server, if there is one.
export async function send(url, options) {
  try {
    return await fetch(url, { credentials: 'same-origin', cache: 'no-store', ...options });
  } catch (err) {
    throw unanswered(err);
  }
}

async function call(url, options) {
  const response = await send(url, options);
  if (!response.ok) throw await failure(response);
  try {
    return await response.json();
  } catch (err) {
    throw unanswered(err); // it was cut off
  }
}

// unanswered returns the error for a call without a whole answer. One that was given up
// by the page itself is none of the server's.
function unanswered(err) {
  if (err.name === 'AbortError') return err;
  happenings.dispatchEvent(new Event('unreachable'));
  return new Unreachable('The server does not answer.');
}

// failure returns the error for a response that is none of success. Its body is one
// message, or JSON if a refusal says what is in the way.
export async function failure(response) {
  const text = await response.text().catch(() => '');
  if (response.status === 401) happenings.dispatchEvent(new Event('unauthorized'));
  if (response.status === 409) {
    try {
      const { message, data } = JSON.parse(text);
      return new Failure(409, message, data);
    } catch {
      // A refusal in plain words.
    }
  }
  return new Failure(response.status, text.trim() || `The server answers ${response.status}.`);
}
