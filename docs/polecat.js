// A client of polecat for browsers: it follows a channel, or the event stream, over breaks and restarts, and hands on
// each message once, in order. It needs nothing else; in Node.js before 22, hand in the WebSocket of a package.
//   import { connect } from "/polecat.js";
//   const general = connect("/api/ws/general", { lastEventId: "message-00000" });   // without an id: from now on
//   general.on("message", (message) => console.log(message.id, message.content));
//   const eventId = await general.send({ author: "ann", content: "hello" });        // once it is stored

const BACKOFF_MS = 1000; // doubles with each failure; what is waited is a random part of it
const BACKOFF_MS_MAX = 30_000;
const HELLO_MS_MAX = 15_000; // until a new connection that says nothing counts as dead
const RESEND_WITHIN = 0.8; // of the time for which the server remembers an idempotency key: what is on its way takes time, too
const SUBSCRIBE_TOKEN_REFUSED = 4400; // the one close that coming again cannot mend

/** With the `lastEventId` and the `epoch` that a connection had when it was left, it goes on from there. The two belong together.
 * @param {string} url of a channel or of `/ws`, also relative to the page
 * @param {{lastEventId?: string, epoch?: string, WebSocket?: Function}} [options] */
export const connect = (url, options = {}) => new Connection(url, options);

/** `on` and `addEventListener` take, by name, what comes. Of a channel: `message`, what GET /api/messages has of it. Of
 * `/ws`: `event` and `event:TYPE`, {type, payload, correlation_id, timestamp, event_id}. Of both: `state` ({state,
 * afterMs, code, reason}), and what the server itself says, in the form of events: `hello`, `resumed`, `gap`
 * (something may be missing, and what came after its `agreed` is not there any more), `live`, `heartbeat`, `reconnect`, `health_status`, `error`. */
export class Connection extends EventTarget {
  /** @type {"connecting" | "replaying" | "live" | "waiting" | "closed"} */ state = "closed";
  /** What the server has said of itself, its payload of `hello`. */ server = null;
  #url; #WebSocket; #socket; #timer; #reconnectMs;
  #failures = 0; #sends = 0;
  #seen; // the number of the last that was handed on and means the same to the server
  #pending = new Map(); // what was not acknowledged yet, by id
  #retryNow = () => this.state === "waiting" && this.#open();

  constructor(url, { lastEventId, epoch, WebSocket = globalThis.WebSocket }) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#WebSocket = WebSocket;
    Object.assign(this, { lastEventId: lastEventId ?? "", epoch: epoch ?? "" }); // null is what a page has stored at first
    this.#seen = numberOf(this.lastEventId);
    globalThis.addEventListener?.("online", this.#retryNow);
    this.#open();
  }

  /** Calls `listener` with each that comes; returns what ends that. */
  on(type, listener) {
    const unwrap = ({ detail }) => listener(detail);
    this.addEventListener(type, unwrap);
    return () => this.removeEventListener(type, unwrap);
  }

  /** Publishes on the channel, now or when there is a connection, and after a break again under the same key. Resolves
   * with the event id once it is stored; rejects, with a `code`, where it is not, or where that is `unknown`.
   * @param {{author?: string, content?: string, lane?: string, provider?: string, token_count?: number}} message */
  send(message) {
    const id = ++this.#sends;
    return new Promise((resolve, reject) => {
      if (this.state === "closed") throw failure("closed", "the connection was closed");
      const idempotency_key = message.idempotency_key ?? randomKey();
      const text = JSON.stringify({ ...message, idempotency_key, type: "message", id });
      this.#pending.set(id, { text, resolve, reject, sentAt: null, windowMs: Infinity, isSentAgain: false });
      if (this.state === "replaying" || this.state === "live") this.#write(this.#pending.get(id));
    }).finally(() => this.#pending.delete(id));
  }

  /** For good. What was not acknowledged is rejected. */
  close() {
    this.#end(1000, "");
  }

  #open() {
    const url = new URL(this.#url);
    if (this.lastEventId) url.searchParams.set("last_event_id", this.lastEventId);
    if (this.epoch) url.searchParams.set("epoch", this.epoch);
    this.#socket = new this.#WebSocket(url, "polecat.v1");
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.#socket.onerror = () => {}; // a close follows
    this.#socket.onclose = ({ code, reason }) => this.#lose(code, reason);
    this.#expectWithin(HELLO_MS_MAX);
    this.#change("connecting");
  }

  #take(message) {
    const { type, payload, data, correlation_id: correlationId, event_id: eventId } = message;
    // Whatever its type, even an empty one: what the server says of itself has neither.
    const isPublished = data !== undefined || typeof correlationId === "string";
    if (isPublished) this.#handOn(message);
    else if (type === "hello") this.#begin(payload);
    else if (type === "gap") this.#seen = Math.min(this.#seen, numberOf(payload.agreed ?? "")); // those above it are others here
    else if (type === "reconnect") this.#reconnectMs = payload.after_ms;
    else if (type === "ack") this.#pending.get(payload.id)?.resolve(payload.event_id);
    else if (type === "error") this.#refuse(this.#pending.get(payload.id), payload.code, payload.message);
    else if (type === "live") this.#failures = 0;
    // All up to it has been handed on. After `hello` there may be a gap, and where a break swallows that, it has to be told again.
    const isAnswered = isPublished || type !== "hello" || !this.lastEventId;
    if (eventId && isAnswered) Object.assign(this, { lastEventId: eventId, epoch: this.server.epoch });
    if (this.state === "closed") return; // by a listener
    // Silence for longer than two heartbeats is the end of a connection that has broken without a word.
    this.#expectWithin(2.2 * this.server.heartbeat_interval_ms + 1000);
    if (isPublished) return;
    if (type === "live") this.#change("live");
    this.#tell(type, message);
  }

  #handOn(message) {
    const number = numberOf(message.event_id);
    if (number <= this.#seen) return;
    this.#seen = number;
    if (message.data !== undefined) return this.#tell("message", message.data);
    this.#tell("event", message);
    this.#tell(`event:${message.type}`, message);
  }

  #begin(server) {
    this.server = server;
    this.#change("replaying");
    for (const sending of this.#pending.values()) this.#write(sending);
  }

  #write(sending) {
    const bytes = new TextEncoder().encode(sending.text).length;
    // Of a server that says nothing, a key is not known to be remembered. One that comes after another may remember less.
    sending.windowMs = Math.min(sending.windowMs, this.server.idempotency_window_ms ?? 0);
    sending.isSentAgain = sending.sentAt !== null;
    const isLate = sending.isSentAgain && msSince(sending.sentAt) >= RESEND_WITHIN * sending.windowMs;
    if (isLate) return this.#refuse(sending, "unknown", "it may or may not be stored");
    if (bytes > this.server.message_bytes_max) return this.#refuse(sending, "too_long", `it has ${bytes} bytes`);
    sending.sentAt ??= clocks();
    this.#socket.send(sending.text);
  }

  /** Where an answer was lost, no other says that it is not stored. */
  #refuse(sending, code, reason) {
    sending?.reject(failure(sending.isSentAgain ? "unknown" : code, reason));
  }

  #expectWithin(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(1006, "nothing was heard any more"), milliseconds);
  }

  #lose(code, reason) {
    if (code === SUBSCRIBE_TOKEN_REFUSED) return this.#end(code, reason);
    this.#drop();
    const afterMs = this.#reconnectMs ?? Math.random() * Math.min(BACKOFF_MS * 2 ** this.#failures++, BACKOFF_MS_MAX);
    this.#reconnectMs = undefined;
    this.#timer = setTimeout(() => this.#open(), afterMs);
    this.#change("waiting", { afterMs, code, reason });
  }

  #end(code, reason) {
    this.#drop();
    globalThis.removeEventListener?.("online", this.#retryNow);
    this.#change("closed", { code, reason });
    const refuse = ({ reject, sentAt }) => reject(failure(sentAt !== null ? "unknown" : "closed", "the connection was closed"));
    this.#pending.forEach(refuse);
  }

  /** Leaves a socket, also one that will never say that it is closed. */
  #drop() {
    clearTimeout(this.#timer);
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #change(state, detail) {
    this.state = state;
    this.#tell("state", { state, ...detail });
  }

  #tell = (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail }));
}

const numberOf = (eventId) => Number(eventId.split("-")[1]) || 0; // of `message-00017`, 17
/** One clock may stand still while the machine sleeps, and the other may be set back: the later one counts. */
const clocks = () => [performance.now(), Date.now()];
const msSince = (then) => Math.max(...clocks().map((now, which) => now - then[which]));
const failure = (code, reason) => Object.assign(new Error(reason), { code });
/** `crypto.randomUUID` is there on encrypted pages only. */
const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
