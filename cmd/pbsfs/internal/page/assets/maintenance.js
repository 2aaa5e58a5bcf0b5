// Changing the maintenance mode of a datastore.

import { change } from './api.js';
import { byId, make, setText } from './dom.js';
import { badgeClass, messageOf } from './card.js';
import { handleTable, processTable, waitsFor } from './holders.js';
import { visible } from './text.js';

// Maintenance is the dialog. What it shows of the mode and of a drain comes from the
// events of the server, so it is right whoever changes the mode.
export class Maintenance {
  #live;
  #store = '';
  #draining = false; // what is shown as result is a drain
  #dialog = byId('maintenance');

  constructor(live) {
    this.#live = live;
    live.addEventListener('datastore', ({ detail }) => {
      if (this.#dialog.open && detail.now.datastore === this.#store) this.#update(detail.now);
    });
    byId('maintenance-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#run(() => this.#set());
    });
    byId('clear-mode').addEventListener('click', () => this.#run(() => this.clear(this.#store)));
    byId('give-up').addEventListener('click', () => {
      byId('maintenance-title').focus(); // this button is about to go
      this.#run(() => this.clear(this.#store));
    });
    byId('close-maintenance').addEventListener('click', () => this.#dialog.close());
  }

  // open shows the dialog for a datastore.
  open(store) {
    const status = this.#live.stores.get(store);
    if (!status) return;
    this.#store = store;
    this.#draining = false;
    this.#show('', '');
    setText(byId('maintenance-title'), `Maintenance of ${visible(store)}`);
    byId('message').value = status.mode ? status.message : '';
    byId('drain').checked = false;
    this.#update(status);
    this.#dialog.showModal();
    byId('maintenance-title').focus();
  }

  close() {
    this.#dialog.close();
  }

  // clear takes the mode back, which gives up a drain.
  async clear(store) {
    await change('POST', ['pbsfs', 'maintenance', store, 'clear'], {});
    if (store === this.#store) this.#show('done', 'The mode is cleared.');
  }

  async #set() {
    const mode = byId('maintenance-form').elements.mode.value;
    const drain = byId('drain').checked;
    const body = { mode, message: byId('message').value, drain };
    if (drain) body.wait = 0; // the page waits by itself: events tell what goes on
    const { data } = await change('POST', ['pbsfs', 'maintenance', this.#store, 'set'], body);
    if (data.active?.length > 0) this.#showDrain(data.type, data.active, data.open);
    else this.#show('done', `${visible(data.type)} is set. Nothing is in the way.`);
  }

  // run does something that changes the mode, and shows what is wrong with it.
  async #run(action) {
    const buttons = [...this.#dialog.querySelectorAll('button')].filter((b) => b.id !== 'close-maintenance');
    for (const b of buttons) b.disabled = true;
    this.#dialog.setAttribute('aria-busy', 'true');
    this.#draining = false;
    this.#show('notice', 'Asking the server…');
    try {
      await action();
    } catch (err) {
      this.#fail(err);
    } finally {
      for (const b of buttons) b.disabled = false;
      this.#dialog.removeAttribute('aria-busy');
      byId('result').scrollIntoView({ block: 'nearest' });
    }
  }

  #fail(err) {
    if (!err.data) {
      this.#show('error', visible(err.message));
      return;
    }
    const { set, type, processes, open } = err.data;
    if (set) this.#showDrain(type, processes, open);
    else this.#show('error', visible(err.message), holders(processes, open));
  }

  // showDrain shows what a mode waits for, at first as the answer tells: the event about
  // it may have come already, or come later.
  #showDrain(type, processes, open) {
    this.#draining = true;
    const status = this.#live.stores.get(this.#store);
    if (status?.mode === type) this.#updateDrain(status);
    else this.#show('warning', waitingText(type), holders(processes, open));
  }

  // update shows what the server tells of the datastore.
  #update(status) {
    const badge = make('span', { class: `badge ${badgeClass(status.mode)}`, text: visible(status.mode ?? 'available') });
    byId('maintenance-mode').replaceChildren('Now: ', badge, ' ', messageOf(status));
    byId('clear-mode').hidden = !status.mode;
    if (this.#draining || (byId('result').hidden && waitsFor(status).length > 0)) this.#updateDrain(status);
  }

  #updateDrain(status) {
    const waiting = waitsFor(status);
    this.#draining = waiting.length > 0;
    if (waiting.length > 0) {
      const handles = status.mode === 'offline' ? status.handles : []; // who reads is not in the way of read-only
      this.#show('warning', waitingText(status.mode), holders(waiting, [{ handles }], status.received));
    } else if (status.mode) {
      this.#show('done', `${visible(status.mode)} is set. Nothing is in the way any more.`);
    } else {
      this.#show('notice', 'The mode was cleared.');
    }
  }

  // show shows how a change went; a warning is a drain, which can be given up.
  #show(kind, text, tables = []) {
    byId('result').hidden = text === '';
    byId('result').className = `result ${kind}`;
    setText(byId('result-text'), text);
    byId('result-holders').replaceChildren(...tables);
    byId('give-up').hidden = kind !== 'warning';
  }
}

function waitingText(mode) {
  return `${visible(mode)} is set, and nothing new begins. It waits for what is still open:`;
}

// holders returns tables of who is in the way.
function holders(processes, open, received = Date.now()) {
  const parts = [];
  const add = (view, rows) => {
    view.update(rows, received);
    parts.push(view.root);
  };
  if (processes?.length > 0) add(processTable('Active operations'), processes);
  for (const { mountpoint, handles, problem } of open ?? []) {
    const where = mountpoint ? ` in ${visible(mountpoint)}` : '';
    if (handles?.length > 0) add(handleTable(`Open files${where}`), handles);
    if (problem) parts.push(make('p', { text: `${visible(mountpoint)}: ${visible(problem)}` }));
  }
  return parts;
}
