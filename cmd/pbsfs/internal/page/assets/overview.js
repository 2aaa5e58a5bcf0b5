// The list of datastores.

import { get } from './api.js';
import { Card } from './card.js';
import { announce, byId, setText } from './dom.js';
import { byName, count, visible } from './text.js';
import { mayChange } from './session.js';

const usageEvery = 60_000; // ms

// Overview shows a card for each datastore that the server tells of.
export class Overview {
  #cards = new Map();
  #live;
  #actions;
  #comments = new Map();
  #usageTimer = 0;

  // actions are what the buttons do: maintenance(name) and giveUp(name).
  constructor(live, actions) {
    this.#live = live;
    this.#actions = actions;
    live.addEventListener('datastore', ({ detail }) => this.#changed(detail));
    live.addEventListener('gone', ({ detail }) => this.#remove(detail.name));
    live.addEventListener('connection', () => {
      this.#note();
      if (live.connected) this.#describe();
    });
  }

  start() {
    clearInterval(this.#usageTimer);
    this.#usageTimer = setInterval(() => this.#cards.forEach((_, name) => this.#askUsage(name)), usageEvery);
    this.#note();
  }

  stop() {
    clearInterval(this.#usageTimer);
    this.#cards.clear();
    byId('cards').replaceChildren();
  }

  #changed({ now, before }) {
    const name = now.datastore;
    const card = this.#cards.get(name) ?? this.#add(name);
    card.update(now, mayChange());
    if (!before || before.mode !== now.mode || before.device?.state !== now.device?.state) this.#askUsage(name);
    if (before) announceChange(before, now);
    this.#note();
  }

  #add(name) {
    const card = new Card(name, {
      onMaintenance: () => this.#actions.maintenance(name),
      onGiveUp: () => this.#actions.giveUp(name),
    });
    card.describe({ comment: this.#comments.get(name) });
    this.#cards.set(name, card);
    const next = [...this.#cards.keys()].sort(byName).find((other) => byName(other, name) > 0);
    byId('cards').insertBefore(card.root, this.#cards.get(next)?.root ?? null);
    return card;
  }

  #remove(name) {
    this.#cards.get(name)?.root.remove();
    this.#cards.delete(name);
    announce(`${visible(name)} is no longer a datastore of this server.`);
    this.#note();
  }

  #note() {
    const waiting = !this.#live.connected && !this.#live.lostAt;
    setText(byId('overview-note'), this.#cards.size > 0 ? '' : waiting ? 'Loading…' : this.#live.connected ? 'There is no datastore.' : '');
  }

  // Comments are not part of the status. Without them a card is not wrong, so a failure
  // is not told.
  async #describe() {
    const { data } = await get(['admin', 'datastore']).catch(() => ({ data: [] }));
    for (const { store, comment } of data) {
      this.#comments.set(store, comment);
      this.#cards.get(store)?.describe({ comment });
    }
  }

  async #askUsage(name) {
    let usage = null;
    let why = '';
    try {
      usage = (await get(['admin', 'datastore', name, 'status'])).data;
    } catch (err) {
      if (err.status === 404) {
        this.#cards.get(name)?.elsewhere();
        return;
      }
      why = err.status === 503 ? 'not known while the datastore is not available' : `not known: ${visible(err.message)}`;
    }
    this.#cards.get(name)?.showUsage(usage, why);
  }
}

// announceChange says the two things that somebody who does not see the tables waits for.
function announceChange(before, now) {
  const name = visible(now.datastore);
  if (before.mode !== now.mode) announce(`${name}: ${now.mode ? `the mode is ${visible(now.mode)}` : 'the mode is cleared'}.`);
  if (before.handles.length !== now.handles.length) {
    announce(`${name}: ${now.handles.length === 0 ? 'nothing is open' : `${count(now.handles.length, 'file is', 'files are')} open`}.`);
  }
}
