// A client of polecat for browsers: it follows a channel, or the event stream, for ever, over breaks and restarts, and
// hands on each message once, in order. It needs nothing else; in Node.js before 22, hand in the WebSocket of a package.
//
//   import { connect } from "/polecat.js";
//   const general = connect("/api/ws/general", { lastEventId: "message-00000" });   // without an id: from now on
//   general.on("message", (message) => console.log(message.id, message.content));
//   const eventId = await general.send({ author: "ann", content: "hello" });        // once it is stored

const BACKOFF_MS = 1000; // doubles with each failure; what is waited is a random part of it
const BACKOFF_MS_MAX = 30_000;
const HELLO_MS_MAX = 15_000; // until a new connection that says nothing counts as dead
const RESEND_MS_MAX = 240_000; // less than the time for which the server remembers an idempotency key
const SUBSCRIBE_TOKEN_REFUSED = 4400; // the one close that coming again cannot mend

/**
 * @typedef {{id: number, channel_id: string, author: string, content: string, timestamp: string,
 *   lane: ?string, provider: ?string, token_count: ?number}} Message
 * @typedef {{type: string, payload: object, correlation_id: ?string, timestamp: string, event_id: string}} Envelope
 * @typedef {"connecting" | "replaying" | "live" | "waiting" | "closed"} State
 */

/**
 * @param {string} url of a channel or of `/ws`, also relative to the page
 * @param {{lastEventId?: string, epoch?: string, WebSocket?: Function}} [options] the two that a `Connection` had when
 *   it was left, to go on from there
 */
export function connect(url, options = {}) {
  return new Connection(url, options);
}

/** `on` and `addEventListener` take, by name, what comes. Of a channel: `message` (a `Message`). Of `/ws`: `event` (an
 * `Envelope`), and `event:TYPE`. Of both: `state` ({state, afterMs, code, reason}), and what the server itself says,
 * as envelopes: `hello`, `resumed`, `gap` (something may be missing), `live`, `heartbeat`, `reconnect`,
 * `health_status`, `error`. */
export class Connection extends EventTarget {
  /** @type {State} */ state = "closed";
  /** What the server has said of itself, its payload of `hello`. */ server = null;
  #url; #WebSocket; #socket; #timer; #reconnectMs;
  #failures = 0;
  #seen = 0; // the number of the last that was handed on, in this epoch
  #sends = 0;
  #pending = new Map(); // what was not acknowledged yet, by id
  #retryNow = () => this.state === "waiting" && this.#open();

  constructor(url, { lastEventId = "", epoch = "", WebSocket = globalThis.WebSocket }) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#WebSocket = WebSocket;
    Object.assign(this, { lastEventId, epoch });
    if (epoch) this.#seen = numberOf(lastEventId);
    globalThis.addEventListener?.("online", this.#retryNow);
    this.#open();
  }

  /** Calls `listener` with each that comes; returns what ends that. */
  on(type, listener) {
    const unwrap = ({ detail }) => listener(detail);
    this.addEventListener(type, unwrap);
    return () => this.removeEventListener(type, unwrap);
  }

  /** Publishes on the channel, now or when there is a connection, and after a break once more under the same
   * idempotency key, so that it is stored once. Resolves with its event id once it is stored; rejects where it is not
   * (`error.code`), or where that cannot be known any more (`unknown`).
   * @param {{author?: string, content?: string, lane?: string, provider?: string, token_count?: number}} message
   * @returns {Promise<string>} */
  send(message) {
    return new Promise((resolve, reject) => {
      if (this.state === "closed") throw failure("closed", "the connection was closed");
      const id = ++this.#sends;
      const text = JSON.stringify({ idempotency_key: randomKey(), ...message, type: "message", id });
      this.#pending.set(id, { text, resolve, reject, sentAt: 0 });
      if (this.#isOpen()) this.#write(id);
    });
  }

  /** For good. What was not acknowledged is rejected. */
  close() {
    this.#giveUp(1000, "");
  }

  #isOpen = () => this.state === "replaying" || this.state === "live";

  #open() {
    const url = new URL(this.#url);
    if (this.lastEventId) url.searchParams.set("last_event_id", this.lastEventId);
    if (this.epoch) url.searchParams.set("epoch", this.epoch);
    const socket = new this.#WebSocket(url, "polecat.v1");
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => this.#lose(code, reason);
    this.#socket = socket;
    this.#expectWithin(HELLO_MS_MAX);
    this.#change("connecting");
  }

  #take(message) {
    const { type, payload, event_id: eventId } = message;
    // What somebody has published is told from what the server says by its correlation id, whatever its type.
    if (message.data || message.correlation_id) this.#handOn(message);
    else if (type === "hello") this.#begin(payload);
    else if (type === "gap" && numberOf(payload.newest) < this.#seen) this.#seen = numberOf(payload.newest);
    else if (type === "reconnect") this.#reconnectMs = payload.after_ms;
    else if (type === "ack") this.#settle(payload.id, ({ resolve }) => resolve(payload.event_id));
    else if (type === "error") this.#settle(payload.id, ({ reject }) => reject(failure(payload.code, payload.message)));
    else if (type === "live") this.#failures = 0;
    if (eventId) this.lastEventId = eventId; // all up to it has been handed on
    if (this.state === "closed") return; // by a listener
    // Silence for longer than two heartbeats is the end of a connection that has broken without a word.
    this.#expectWithin(2.2 * this.server.heartbeat_interval_ms + 1000);
    if (type === "live" && !message.correlation_id) this.#change("live");
    if (!message.data && !message.correlation_id) this.#tell(type, message);
  }

  #handOn(message) {
    const number = numberOf(message.event_id);
    if (number <= this.#seen) return; // after a gap, what was there before comes again
    this.#seen = number;
    if (message.data) return this.#tell("message", message.data);
    this.#tell("event", message);
    this.#tell(`event:${message.type}`, message);
  }

  #begin(server) {
    if (server.epoch !== this.epoch) this.#seen = 0; // another database: its ids have begun anew
    Object.assign(this, { server, epoch: server.epoch });
    this.#change("replaying");
    for (const id of this.#pending.keys()) this.#write(id);
  }

  #write(id) {
    const { text, sentAt } = this.#pending.get(id);
    const isLong = new TextEncoder().encode(text).length > this.server.message_bytes_max;
    const refuse = (code, reason) => this.#settle(id, ({ reject }) => reject(failure(code, reason)));
    if (isLong) return refuse("too_long", `a message has at most ${this.server.message_bytes_max} bytes`);
    if (sentAt && Date.now() - sentAt > RESEND_MS_MAX) return refuse("unknown", "it may be stored, or not");
    this.#pending.get(id).sentAt ||= Date.now();
    this.#socket.send(text);
  }

  #settle(id, how) {
    if (this.#pending.has(id)) how(this.#pending.get(id));
    this.#pending.delete(id);
  }

  #expectWithin(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(1006, "nothing was heard any more"), milliseconds);
  }

  #lose(code, reason) {
    if (code === SUBSCRIBE_TOKEN_REFUSED) return this.#giveUp(code, reason);
    this.#drop();
    const most = Math.min(BACKOFF_MS * 2 ** this.#failures, BACKOFF_MS_MAX);
    const afterMs = this.#reconnectMs ?? Math.random() * most;
    if (this.#reconnectMs === undefined) this.#failures += 1;
    this.#reconnectMs = undefined;
    this.#timer = setTimeout(() => this.#open(), afterMs);
    this.#change("waiting", { afterMs, code, reason });
  }

  #giveUp(code, reason) {
    this.#drop();
    globalThis.removeEventListener?.("online", this.#retryNow);
    this.#change("closed", { code, reason });
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id, ({ reject, sentAt }) => reject(failure(sentAt ? "unknown" : "closed", "the connection was closed")));
    }
  }

  /** Leaves a socket, also one that will never say that it is closed. */
  #drop() {
    clearTimeout(this.#timer);
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #change(state, detail = {}) {
    this.state = state;
    this.#tell("state", { state, ...detail });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Of `message-00017`, 17; ids are compared by it. */
const numberOf = (eventId) => Number(eventId.split("-")[1]) || 0;

const failure = (code, reason) => Object.assign(new Error(reason), { code });

/** `crypto.randomUUID` is there on encrypted pages only. */
const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
