// The page: which part is shown, and what connects the parts.

import { happenings } from './api.js';
import { Browse } from './browse.js';
import { announce, byId, setText } from './dom.js';
import { tick } from './holders.js';
import { Live } from './live.js';
import { Maintenance } from './maintenance.js';
import { Overview } from './overview.js';
import { parse } from './route.js';
import { leave, logIn, logOut, resume, takeToken } from './session.js';
import { visible } from './text.js';
import { closeViewer, setUpViewer } from './view.js';

const live = new Live();
const maintenance = new Maintenance(live);
const overview = new Overview(live, {
  maintenance: (name) => maintenance.open(name),
  giveUp: (name) => maintenance.clear(name).catch((err) => complain(visible(err.message))),
});
const browse = new Browse(live);

// show shows one part of the page.
function show(id) {
  for (const part of ['starting', 'login', 'overview', 'browse']) byId(part).hidden = part !== id;
}

// go shows what the address names. Unless the page has just been loaded, the focus goes
// there, because what had it is gone.
function go(focus) {
  const place = parse(location.hash);
  closeViewer();
  maintenance.close();
  if (place.store !== undefined) {
    byId('to-overview').removeAttribute('aria-current');
    show('browse');
    browse.show(place, focus);
    return;
  }
  browse.hide();
  byId('to-overview').setAttribute('aria-current', 'page');
  document.title = 'Datastores – pbsfs';
  show('overview');
  if (focus) byId('overview-title').focus();
}

function begin(focus) {
  overview.start();
  live.start();
  go(focus);
}

// end shows the login, and why.
function end(why, focus) {
  live.stop();
  overview.stop();
  browse.hide();
  leave();
  closeViewer();
  maintenance.close();
  document.title = 'Log in – pbsfs';
  show('login');
  setText(byId('connection'), '');
  setText(byId('login-error'), why);
  if (focus) byId('token').focus();
}

// complain shows something that went wrong outside of any part.
function complain(text) {
  setText(byId('connection'), text);
}

byId('login-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = byId('token');
  byId('log-in').disabled = true;
  setText(byId('login-error'), '');
  const problem = await logIn(field.value.trim());
  byId('log-in').disabled = false;
  if (problem === '') {
    field.value = '';
    begin(true);
    return;
  }
  setText(byId('login-error'), problem);
  field.select();
  field.focus();
});

byId('log-out').addEventListener('click', async () => {
  try {
    await logOut();
    end('', true);
  } catch (err) {
    complain(visible(err.message));
  }
});

// The address of the skip link would be taken for a place.
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  byId('main').focus();
});

happenings.addEventListener('unauthorized', () => {
  if (byId('login').hidden && byId('starting').hidden) end('Your session has ended. Log in again.', true);
});
happenings.addEventListener('unreachable', () => live.suspect());

live.addEventListener('connection', () => {
  if (live.connected) {
    if (byId('connection').textContent !== '') announce('The connection is back.');
    setText(byId('connection'), '');
  } else {
    setText(byId('connection'), `The connection to the server is lost. What is shown is of ${live.lostAt.toLocaleTimeString('en-GB')}. Trying again…`);
  }
});

addEventListener('hashchange', async () => {
  const token = takeToken();
  if (token) {
    const problem = await resume(token);
    if (problem) end(problem, true);
    else begin(true);
  } else if (byId('login').hidden) {
    go(true);
  }
});

setUpViewer();
setInterval(tick, 1000);
const problem = await resume(takeToken());
if (byId('who').hidden) end(problem, true);
else begin(false);
