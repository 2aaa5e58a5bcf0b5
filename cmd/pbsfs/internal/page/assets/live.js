// What the server tells without being asked: the status of each datastore, whenever it
// changes, and that it is alive.

import { get, Failure } from './api.js';

const silence = 12_000; // ms; the server says something every 5 s
const firstPause = 1000; // ms
const longestPause = 15_000;

// Live follows the events of the server. It tells by events of its own:
//
//   "datastore"   one is there, or has changed; detail is {now, before}
//   "gone"        one is there no more; detail is {name}
//   "connection"  it was lost, or is there again; see connected
export class Live extends EventTarget {
  stores = new Map(); // the status by name; received says when it came
  connected = false;
  lostAt = null; // when the connection was lost, if it is
  #source = null;
  #heard = 0;
  #fresh = null; // who was told since the last hello, until those that are gone are known
  #patient = false; // nobody was told yet, and the server gets some more time
  #pause = firstPause;
  #retry = 0;
  #watch = 0;

  start() {
    this.stop();
    this.#watch = setInterval(() => this.#watchSilence(), 1000);
    this.#open();
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
    this.stores.clear();
    this.connected = false;
    this.lostAt = null;
  }

  // suspect is called by who got no answer: then what is shown may be old.
  suspect() {
    if (this.#source) this.#lose();
  }

  #open() {
    const source = new EventSource('/api2/json/pbsfs/events');
    this.#source = source;
    this.#heard = Date.now();
    const on = (name, handle) => source.addEventListener(name, (event) => {
      if (source !== this.#source) return; // of a connection that was given up
      this.#heard = Date.now();
      handle.call(this, JSON.parse(event.data));
    });
    on('hello', this.#hello);
    on('datastore', this.#datastore);
    on('gone', ({ datastore }) => this.#gone(datastore));
    on('alive', this.#alive);
    source.addEventListener('error', () => {
      if (source !== this.#source) return;
      if (source.readyState === EventSource.CLOSED) this.#lose();
      else this.#tell(false); // the browser tries again by itself
    });
  }

  #hello() {
    this.#fresh = new Set();
    this.#patient = true;
    this.#pause = firstPause;
    this.#tell(true);
  }

  #datastore(now) {
    const before = this.stores.get(now.datastore);
    now.received = Date.now();
    this.stores.set(now.datastore, now);
    this.#fresh?.add(now.datastore);
    this.#emit('datastore', { now, before });
  }

  #gone(name) {
    if (this.stores.delete(name)) this.#emit('gone', { name });
  }

  // After a reconnection all datastores are told anew, at once. Those that are not have
  // gone meanwhile. A server that must wait for a dead disk may tell nothing for a while.
  #alive() {
    if (!this.#fresh) return;
    if (this.#fresh.size === 0 && this.#patient) {
      this.#patient = false;
      return;
    }
    for (const name of [...this.stores.keys()]) {
      if (!this.#fresh.has(name)) this.#gone(name);
    }
    this.#fresh = null;
  }

  #watchSilence() {
    if (this.#source && Date.now() - this.#heard > silence) this.#lose();
  }

  // lose gives the connection up and tries again a little later.
  #lose() {
    this.#source?.close();
    this.#source = null;
    this.#tell(false);
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#again(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, longestPause);
  }

  // An EventSource does not say why it failed, so a call is made first: if the session is
  // gone, api.js says so to everybody, and there is nothing to try.
  async #again() {
    try {
      await get(['pbsfs', 'session'], {}, AbortSignal.timeout(silence));
      this.#open();
    } catch (err) {
      if (!(err instanceof Failure && err.status === 401)) this.#lose();
    }
  }

  #tell(connected) {
    if (connected === this.connected && (connected || this.lostAt)) return;
    this.connected = connected;
    this.lostAt = connected ? null : new Date(this.#heard);
    this.#emit('connection');
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
