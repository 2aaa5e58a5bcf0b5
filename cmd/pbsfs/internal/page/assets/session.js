// Logging in and out.

import { change, get, setCSRF, Failure } from './api.js';
import { byId, setText } from './dom.js';
import { visible } from './text.js';

// session is who is logged in: {tokenid, role, changes}, or null.
let session = null;

// maySee says whether the login may read contents.
export function maySee() {
  return session !== null && session.role !== 'audit';
}

// mayChange says whether the login may change modes.
export function mayChange() {
  return session !== null && session.changes === true;
}

// takeToken returns the token in the address and removes it from there, so that it is
// neither seen, nor copied, nor kept in the history.
export function takeToken() {
  const found = /^#token=(.+)$/s.exec(location.hash);
  if (!found) return '';
  history.replaceState(null, '', location.pathname + location.search);
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1];
  }
}

// resume finds out who is logged in: by the token, if there is one, or already, by a
// cookie or by the connection itself. It returns why nobody is, or ''.
export async function resume(token) {
  const problem = token ? await logIn(token) : '';
  if (session) return '';
  try {
    enter((await get(['pbsfs', 'session'])).data);
    return '';
  } catch (err) {
    if (err instanceof Failure && err.status === 401) return problem;
    return problem || err.message;
  }
}

// logIn logs in with a token. It returns why that failed, or ''.
export async function logIn(token) {
  try {
    enter((await change('POST', ['pbsfs', 'session'], { token })).data);
    return '';
  } catch (err) {
    if (err instanceof Failure && err.status === 401) return 'The server does not know this token.';
    return visible(err.message);
  }
}

function enter(data) {
  session = data;
  setCSRF(data.CSRFPreventionToken);
  setText(byId('token-id'), visible(data.tokenid));
  setText(byId('role'), visible(data.role));
  byId('who').hidden = byId('sections').hidden = false;
}

// leave forgets who was logged in.
export function leave() {
  session = null;
  setCSRF('');
  byId('who').hidden = byId('sections').hidden = true;
}

// logOut ends the session, here and on the server.
export async function logOut() {
  await change('DELETE', ['pbsfs', 'session']);
  leave();
}
