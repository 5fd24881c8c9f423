// A client of polecat for browsers. It follows a channel or the event stream over breaks and restarts, and delivers each
// message once, in order. It has no dependencies; in Node.js before 22, pass the WebSocket class of a package.
//   import { connect } from "/polecat.js";
//   const general = connect("/api/ws/general", { lastEventId: "message-00000" });   // without an id: from now on
//   general.on("message", (message) => console.log(message.id, message.content));
//   const eventId = await general.send({ author: "ann", content: "hello" });        // once it is stored

const BACKOFF_MS = 1000; // doubles with each failure; the delay is a random part of it
const BACKOFF_MS_MAX = 30_000;
const HELLO_MS_MAX = 15_000; // a new connection that is silent for longer counts as dead
const RESEND_WITHIN = 0.8; // part of the time for which the server remembers a key, since a message under way takes time too
const SUBSCRIBE_TOKEN_REFUSED = 4400; // the one close code after which reconnecting cannot help

/** Pass the `lastEventId` and the `epoch` of an earlier connection to resume where it was. The two belong together.
 * @param {string} url of a channel or of `/ws`, also relative to the page
 * @param {{lastEventId?: string, epoch?: string, WebSocket?: Function}} [options] */
export const connect = (url, options = {}) => new Connection(url, options);

/** Listen with `on` or `addEventListener`. A channel has `message`, in the form of GET /api/messages. `/ws` has `event` and
 * `event:TYPE`, in the form {type, payload, correlation_id, timestamp, event_id}. Both have `state` ({state, afterMs, code,
 * reason}), and the server's own messages in the form of events: `hello`, `resumed`, `gap` (messages may be missing, and those
 * after its `agreed` no longer exist), `live`, `heartbeat`, `reconnect`, `health_status`, `error`. */
export class Connection extends EventTarget {
  /** @type {"connecting" | "replaying" | "live" | "waiting" | "closed"} */ state = "closed";
  /** The payload of the server's latest `hello`. */ server = null;
  #url; #WebSocket; #socket; #timer; #reconnectMs;
  #failures = 0; #sends = 0;
  #seen; // the number of the last message that was delivered and means the same to the server
  #pending = new Map(); // messages that are not acknowledged yet, by id
  #retryNow = () => this.state === "waiting" && this.#open();

  constructor(url, { lastEventId, epoch, WebSocket = globalThis.WebSocket }) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#WebSocket = WebSocket;
    Object.assign(this, { lastEventId: lastEventId ?? "", epoch: epoch ?? "" }); // a page that has stored neither passes null
    this.#seen = numberOf(this.lastEventId);
    globalThis.addEventListener?.("online", this.#retryNow);
    this.#open();
  }

  /** Calls `listener` for each event of this type; returns a function that stops it. */
  on(type, listener) {
    const unwrap = ({ detail }) => listener(detail);
    this.addEventListener(type, unwrap);
    return () => this.removeEventListener(type, unwrap);
  }

  /** Publishes on the channel, as soon as there is a connection, and after a break again with the same key. Resolves with
   * the event id once the message is stored. Rejects with a `code` if it is not; `unknown` means that it may be.
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

  /** Closes the connection for good, and rejects messages that are not acknowledged. */
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
    // The type does not matter, even if it is empty: the server's own messages have neither of these.
    const isPublished = data !== undefined || typeof correlationId === "string";
    if (isPublished) this.#deliver(message);
    else if (type === "hello") this.#begin(payload);
    else if (type === "gap") this.#seen = Math.min(this.#seen, numberOf(payload.agreed ?? "")); // ids above it mean other messages here
    else if (type === "reconnect") this.#reconnectMs = payload.after_ms;
    else if (type === "ack") this.#pending.get(payload.id)?.resolve(payload.event_id);
    else if (type === "error") this.#refuse(this.#pending.get(payload.id), payload.code, payload.message);
    else if (type === "live") this.#failures = 0;
    // Everything up to this id was delivered. But a `gap` may follow `hello`: if a break loses it, the server must be able to
    // report it again.
    const isAnswered = isPublished || type !== "hello" || !this.lastEventId;
    if (eventId && isAnswered) Object.assign(this, { lastEventId: eventId, epoch: this.server.epoch });
    if (this.state === "closed") return; // by a listener
    // A connection that is silent for longer than two heartbeat intervals has broken without a close.
    this.#expectWithin(2.2 * this.server.heartbeat_interval_ms + 1000);
    if (isPublished) return;
    if (type === "live") this.#change("live");
    this.#tell(type, message);
  }

  #deliver(message) {
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
    // A server that does not say how long it remembers keys may remember none. A restarted server may remember them for less.
    sending.windowMs = Math.min(sending.windowMs, this.server.idempotency_window_ms ?? 0);
    sending.isSentAgain = sending.sentAt !== null;
    const isLate = sending.isSentAgain && msSince(sending.sentAt) >= RESEND_WITHIN * sending.windowMs;
    if (isLate) return this.#refuse(sending, "unknown", "it may or may not be stored");
    if (bytes > this.server.message_bytes_max) return this.#refuse(sending, "too_long", `it has ${bytes} bytes`);
    sending.sentAt ??= clocks();
    this.#socket.send(sending.text);
  }

  /** If an earlier response was lost, a later refusal does not mean that the message is not stored. */
  #refuse(sending, code, reason) {
    sending?.reject(failure(sending.isSentAgain ? "unknown" : code, reason));
  }

  #expectWithin(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(1006, "the server was silent for too long"), milliseconds);
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

  /** Abandons a socket, even one that will never report that it is closed. */
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
/** One clock may stop while the machine sleeps, and the other may be set back: the one that advanced more counts. */
const clocks = () => [performance.now(), Date.now()];
const msSince = (then) => Math.max(...clocks().map((now, which) => now - then[which]));
const failure = (code, reason) => Object.assign(new Error(reason), { code });
/** `crypto.randomUUID` exists on encrypted pages only. */
const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
