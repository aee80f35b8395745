// Pagewire's browser client, built from clients/js/src: do not edit. Apache-2.0

// src/error.ts
var PagewireError = class extends Error {
  /**
   * The server's codes (`forbidden`, `unknown`, `timeout`, `no_executor`, …) and the client's own: `uncertain` (the
   * request was sent and its reply is lost: it may or may not have been processed), `closed` (it was never sent),
   * `origin` (the server's `websocket.origins` does not list the origin of this page), `cancelled` (the caller
   * cancelled it), `overflow` (too many requests are waiting), and `timeout` and `too_large` with the same meaning as
   * the server's.
   */
  code;
  /** Whether the same request can succeed later. */
  retryable;
  /** How a job ended: `failed`, `cancelled` or `dead`. Absent if the job did not end, and for everything else. */
  state;
  constructor(code, message, retryable = false, state) {
    super(message);
    this.name = "PagewireError";
    this.code = code;
    this.retryable = retryable;
    this.state = state;
  }
};

// src/acks.ts
var ACK_MS = 5e3;
var Acks = class {
  #incoming;
  /** Acknowledges a `seq`, unless nothing may be acknowledged now. Returns whether it did. */
  #send;
  #timer;
  constructor(incoming, send) {
    this.#incoming = incoming;
    this.#send = send;
  }
  /** Handles frames that have arrived. */
  arrived() {
    if (this.#incoming.due && this.now()) return;
    if (this.#incoming.unacked) this.#timer ??= setTimeout(() => this.now(), ACK_MS);
  }
  /** Acknowledges everything, if there is anything to acknowledge. Returns whether nothing is left. */
  now() {
    this.stop();
    return !this.#incoming.unacked || this.#send();
  }
  /** Stops waiting, because there is no socket. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = void 0;
  }
};

// src/outgoing.ts
var Outgoing = class {
  /** Not sent on the current socket. */
  #queue = [];
  /** Sent on the current socket, in order, and not known to be processed. */
  #sent = [];
  /** The number of frames that the server has processed before `#sent`. */
  #processed = 0;
  push(frame) {
    this.#queue.push(frame);
  }
  /** Returns the frame to send next. */
  peek() {
    return this.#queue[0];
  }
  /** Marks the next frame as sent. */
  shift() {
    const frame = this.#queue.shift();
    if (frame) this.#sent.push(frame);
  }
  /** Withdraws a queued frame; returns false if it was sent already. */
  withdraw(id) {
    const place = this.#queue.findIndex((frame) => frame.id === id);
    return place >= 0 && this.#queue.splice(place, 1).length > 0;
  }
  /** Handles a reply, which proves that its frame and all earlier ones were processed. */
  answered(id) {
    const place = this.#sent.findIndex((frame) => frame.id === id);
    this.#sent.splice(0, place + 1);
    this.#processed += place + 1;
  }
  /**
   * Continues after the page was recovered: frames that the server has not processed are sent first, unless their
   * callers have stopped waiting. Returns them.
   */
  recover(received, wanted) {
    const lost = this.#sent.slice(Math.max(0, received - this.#processed)).filter(wanted);
    this.#queue = [...lost, ...this.#queue];
    this.#sent = [];
    this.#processed = received;
    return lost;
  }
  /** Starts the count anew after a reset: whether the frames sent before were processed is unknown. */
  restart(received) {
    this.#sent = [];
    this.#processed = received;
  }
};

// src/pace.ts
var SHARE = 0.9;
var Pace = class {
  #rate = 1;
  #tokens = 0;
  #at = 0;
  /** Starts with a new socket and its limit. */
  restart(rate, now) {
    this.#rate = Math.max(1, rate * SHARE / 2);
    this.#tokens = this.#rate;
    this.#at = now;
  }
  /** Returns 0 and counts a frame that may be sent now, otherwise the ms to wait. */
  waitMs(now) {
    this.#tokens = Math.min(this.#rate, this.#tokens + (now - this.#at) / 1e3 * this.#rate);
    this.#at = now;
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return 0;
    }
    return Math.ceil((1 - this.#tokens) / this.#rate * 1e3);
  }
};

// src/requests.ts
var Requests = class {
  #pending = /* @__PURE__ */ new Map();
  #outgoing = new Outgoing();
  #pace = new Pace();
  #limits = { max_frame: Infinity, frames_per_second: Infinity };
  #write;
  #pump;
  #maxPending;
  #count = 0;
  /** A prefix for ids, so that a reloaded document does not mistake a reply to its predecessor for its own. */
  #prefix = Math.random().toString(36).slice(2, 8);
  constructor(maxPending) {
    this.#maxPending = maxPending;
  }
  /**
   * The ids of sent, unfinished requests that outlive a reset. The server is queried for them when the page resumes.
   */
  get lasting() {
    return [...this.#pending].filter(([, { sent, waiter }]) => sent && waiter.reset).map(([id]) => id);
  }
  /** Sends a frame as soon as a socket is open. Returns the id of its replies. */
  begin(frame, waiter, timeoutMs) {
    if (this.#pending.size >= this.#maxPending) {
      throw new PagewireError("overflow", `${this.#maxPending} requests are waiting already`, true);
    }
    return this.add(frame, waiter, timeoutMs);
  }
  /** Like `begin`, for the page's own requests: has no limit on waiting requests. */
  add(frame, waiter, timeoutMs) {
    const id = `${this.#prefix}.${++this.#count}`;
    const pending = { waiter, sent: false };
    this.#outgoing.push({ id, text: JSON.stringify({ ...frame, id }) });
    if (timeoutMs !== void 0) {
      const error = new PagewireError("timeout", `no answer within ${timeoutMs} ms`, true);
      pending.timer = setTimeout(() => this.giveUp(id, error), timeoutMs);
    }
    this.#pending.set(id, pending);
    this.#flush();
    return id;
  }
  /** Stops waiting for a request. Returns false if it was sent, so that it may still be processed. */
  giveUp(id, error) {
    const unsent = this.#outgoing.withdraw(id);
    this.#take(id)?.waiter.fail(error);
    return unsent;
  }
  /** Returns whether a request was sent, so that only the server can stop it. */
  sent(id) {
    return this.#pending.get(id)?.sent ?? true;
  }
  /** Asks the server to cancel the request with this id. */
  cancel(id) {
    this.#outgoing.push({ text: JSON.stringify({ type: "cancel", id }) });
    this.#flush();
  }
  /** Handles a registered socket: first resends the unprocessed frames, then sends the waiting ones. */
  open(registered, write2) {
    this.#limits = registered.limits;
    if (registered.recovered === "recovered") this.#recover(registered.received);
    else this.#restart(registered);
    this.#pace.restart(this.#limits.frames_per_second, Date.now());
    this.#write = write2;
    this.#flush();
  }
  /** Goes on with the same socket after a pause. */
  continue(write2) {
    this.#write = write2;
    this.#flush();
  }
  /** Handles a lost socket: requests wait for the next one. */
  pause() {
    this.#write = void 0;
    clearTimeout(this.#pump);
  }
  /** Ends all requests, because there will be no next socket. */
  close() {
    this.pause();
    for (const [id, pending] of [...this.#pending]) this.#lose(id, pending);
    this.#outgoing = new Outgoing();
  }
  /** Takes a frame with an id. Returns false if no caller waits for it. */
  answer(frame) {
    const id = String(frame["id"]);
    if (frame["code"] !== "uncertain") this.#outgoing.answered(id);
    const pending = this.#pending.get(id);
    if (pending?.waiter.take(frame)) this.#take(id);
    return pending !== void 0;
  }
  #recover(received) {
    const wanted = ({ id }) => id === void 0 || this.#pending.has(id);
    for (const { id } of this.#outgoing.recover(received, wanted)) {
      const pending = id === void 0 ? void 0 : this.#pending.get(id);
      if (pending) pending.sent = false;
    }
  }
  #restart({ received, recovered }) {
    this.#outgoing.restart(received);
    for (const [id, pending] of [...this.#pending]) {
      if (!pending.sent) continue;
      if (recovered === "reset" && pending.waiter.reset) pending.waiter.reset();
      else this.#lose(id, pending);
    }
  }
  #flush() {
    clearTimeout(this.#pump);
    for (let frame; this.#write && (frame = this.#outgoing.peek()); ) {
      const { id, text } = frame;
      if (id !== void 0 && bytes(text) > this.#limits.max_frame) {
        this.giveUp(id, new PagewireError("too_large", `a frame has at most ${this.#limits.max_frame} bytes`));
        continue;
      }
      const wait = this.#pace.waitMs(Date.now());
      if (wait > 0) {
        this.#pump = setTimeout(() => this.#flush(), wait);
        return;
      }
      this.#outgoing.shift();
      const pending = id === void 0 ? void 0 : this.#pending.get(id);
      if (pending) pending.sent = true;
      this.#write(text);
    }
  }
  #lose(id, { sent, waiter }) {
    this.#take(id);
    const error = sent ? new PagewireError("uncertain", "the answer is lost; it may or may not have happened") : new PagewireError("closed", "the page closed before this was sent", true);
    waiter.fail(error);
  }
  #take(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(pending?.timer);
    return pending;
  }
};
function serverError(frame) {
  return new PagewireError(String(frame["code"]), String(frame["message"]), frame["retryable"] === true);
}
var encoder = new TextEncoder();
function bytes(text) {
  return encoder.encode(text).length;
}

// src/ask.ts
function ask(requests, frame, { timeout_ms, signal } = {}) {
  return new Promise((resolve, reject) => {
    const cancelled = new PagewireError("cancelled", "the caller wanted it no more");
    if (signal?.aborted) throw cancelled;
    const settled = new AbortController();
    const settle = (how) => {
      settled.abort();
      how();
      return true;
    };
    const waiter = {
      take: (answer) => settle(() => answer.type === "result" ? resolve(answer["value"]) : reject(serverError(answer))),
      fail: (error) => void settle(() => reject(error))
    };
    const id = requests.begin(frame, waiter, timeout_ms);
    const abort = () => {
      if (!requests.giveUp(id, cancelled)) requests.cancel(id);
    };
    signal?.addEventListener("abort", abort, { once: true, signal: settled.signal });
  });
}

// src/call.ts
function call(requests, method, params, { signal, ...rest } = {}) {
  return ask(requests, { type: "call", method, params, ...rest }, { signal, timeout_ms: rest.timeout_ms });
}

// src/document.ts
function socketUrl(url = "/_ws") {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace("http", "ws");
  return absolute.href;
}
function slot() {
  if (typeof window === "undefined" || window === window.top) return "tab";
  return `frame:${window.name || window.location.pathname}`;
}
function dependent() {
  return typeof window !== "undefined" && (window !== window.top || Boolean(window.opener));
}
function storage(name2) {
  try {
    return typeof window !== "undefined" && window[name2] || null;
  } catch {
    return null;
  }
}

// src/entrance.ts
var PATIENCE_MS = 5e3;
var LOCK = "pagewire.entrance";
var Entrance = class {
  #turn = 0;
  #release;
  /** Resolves when it is this document's turn, or when it has waited long enough to continue without the lock. */
  async enter() {
    if (this.#release || typeof navigator === "undefined" || !navigator.locks) return;
    const turn = ++this.#turn;
    await new Promise((entered) => {
      const keep = () => {
        entered();
        if (turn !== this.#turn) return void 0;
        return new Promise((release) => this.#release = release);
      };
      const signal = AbortSignal.timeout(PATIENCE_MS);
      navigator.locks.request(LOCK, { signal }, keep).catch(() => entered());
    });
  }
  /** Lets the next document continue. */
  leave() {
    this.#turn += 1;
    this.#release?.();
    this.#release = void 0;
  }
};

// src/tab.ts
var HANDOVER_MS = 300;
var Tab = class {
  #key;
  #release;
  /** Tries to claim a stored page for this document. */
  async claim(pageId) {
    const key = lockName(pageId);
    if (this.#key === key) return "ours";
    if (!locks()) return "unknown";
    const got = await this.#lock(key, { ifAvailable: true }) || await this.#lock(key, { signal: patience() });
    return got ? "ours" : "taken";
  }
  /** Holds a page that the server has just assigned to this document. */
  hold(pageId) {
    const key = lockName(pageId);
    if (this.#key === key) return;
    this.release();
    this.#key = key;
    if (locks()) void this.#lock(key, {});
  }
  #lock(key, options) {
    return new Promise((locked) => {
      const keep = (lock) => {
        locked(lock !== null);
        if (!lock) return void 0;
        this.#key = key;
        return new Promise((release) => this.#release = release);
      };
      navigator.locks.request(key, options, keep).catch(() => locked(false));
    });
  }
  /** Releases the page, so that the next document of this tab may resume it. */
  release() {
    this.#release?.();
    this.#release = void 0;
    this.#key = void 0;
  }
};
function patience() {
  return AbortSignal.timeout(HANDOVER_MS);
}
function lockName(pageId) {
  return `pagewire.page.${pageId.split("|")[0]}`;
}
function locks() {
  return typeof navigator !== "undefined" && navigator.locks !== void 0;
}

// src/claim.ts
var Claim = class {
  #identity;
  #tab = new Tab();
  #entrance = new Entrance();
  constructor(identity) {
    this.#identity = identity;
  }
  /** Ensures that a page is resumed only by its own document, and that only one document opens a connection. */
  async settle() {
    await this.#page();
    if (!this.#identity.blank) return;
    await this.#entrance.enter();
    this.#identity.recall();
  }
  async #page() {
    const page = this.#identity.page;
    if (!page) return;
    const claim = await this.#tab.claim(page.id);
    if (claim === "ours" && !this.#identity.overtaken()) return;
    if (claim === "taken" && !dependent()) this.#identity.forgetSession();
    else this.#identity.forgetPage();
  }
  /** Claims a page that the server has assigned to this document. */
  hold(page_id) {
    this.#tab.hold(page_id);
    this.#entrance.leave();
  }
  /** Stops waiting: no reply from the server is expected any more. */
  leave() {
    this.#entrance.leave();
  }
  /** Releases the page, so that the next document of this tab may resume it. */
  release() {
    this.#tab.release();
  }
};

// src/close.ts
var MALFORMED_HELLO = 4e3;
var UNAUTHENTICATED = 4001;
var FORBIDDEN = 4003;
var REPLACED = 4006;
var UNREGISTERED = 4007;
var TOKEN_EXPIRED = 4504;
var ORIGIN = "origin";
function verdict(code, text) {
  const said = advice(text);
  const origin = code === FORBIDDEN && said.reason === ORIGIN;
  return {
    reconnect: code < 4e3 || code > 4499,
    renewToken: code === UNAUTHENTICATED || code === TOKEN_EXPIRED,
    forgetPage: code === REPLACED || code === UNREGISTERED,
    refusesIds: code === MALFORMED_HELLO || code === UNAUTHENTICATED || code === FORBIDDEN && !origin,
    advisedMs: said.advisedMs,
    reason: origin ? foreign() : said.reason,
    ending: origin ? ORIGIN : ending(code)
  };
}
function foreign() {
  const here = globalThis.location?.origin ?? "this origin";
  return `the server accepts no pages of ${here}: its configuration key websocket.origins does not list it`;
}
function ending(code) {
  switch (code) {
    case MALFORMED_HELLO:
      return "malformed";
    case UNAUTHENTICATED:
    case TOKEN_EXPIRED:
      return "unauthenticated";
    case FORBIDDEN:
      return "forbidden";
    case REPLACED:
      return "replaced";
    case UNREGISTERED:
      return "unregistered";
    default:
      return "closed";
  }
}
function advice(text) {
  try {
    const { retry_after_ms: delay, reason } = JSON.parse(text);
    return {
      advisedMs: typeof delay === "number" && delay > 0 ? delay : 0,
      reason: typeof reason === "string" ? reason : ""
    };
  } catch {
    return { advisedMs: 0, reason: text };
  }
}

// src/deferred.ts
var Deferred = class {
  promise;
  resolve = () => void 0;
  reject = () => void 0;
  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => void 0);
  }
};

// src/emitter.ts
var Emitter = class {
  #listeners = /* @__PURE__ */ new Map();
  /** Calls `listener` for each event until the returned function is called. */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? /* @__PURE__ */ new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }
  /** Calls all listeners of an event. */
  emit(type, event) {
    for (const listener of [...this.#listeners.get(type) ?? []]) {
      try {
        listener(event);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
};

// src/identity.ts
var CONNECTION = "pagewire.connection";
var SESSION = "pagewire.session";
var PAGE = "pagewire.page.";
var MAX_SUCCESSORS = 16;
var Identity = class {
  #local;
  #session;
  #slot;
  #proofs;
  /** The ids of an older deployment that are named for what has no id yet. */
  #older;
  /** The session that the server rejected, until there is another one. */
  #lost;
  constructor(local, session, slot2, older = {}) {
    this.#older = older;
    this.#local = local;
    this.#session = session;
    this.#slot = PAGE + slot2;
    this.#proofs = {
      ...read("connection", local, CONNECTION),
      ...read("session", session, SESSION),
      ...read("page", session, this.#slot)
    };
  }
  /** Whether the next `hello` has no ids, so that it opens a connection. */
  get blank() {
    const { connection, session, page } = this.#proofs;
    return !connection && !session && !page;
  }
  /** The page that can be resumed. */
  get page() {
    return this.#proofs.page;
  }
  /** The unfinished jobs of that page, by the id of the request that submitted each. */
  get jobs() {
    return this.#proofs.page?.jobs ?? {};
  }
  /**
   * Returns the ids and the proof for `hello`: the page to resume with its watched paths and pending ids, otherwise the
   * session or connection to join.
   */
  hello(seq, watch, pending) {
    const { connection, session, page } = this.#proofs;
    const proof = page ?? session ?? connection;
    return {
      ...this.#older,
      ...connection && { connection_id: connection.id },
      ...session && { session_id: session.id },
      ...page && { page_id: page.id },
      ...proof && { resume: { token: proof.token, seq: page ? seq : 0 } },
      // sent even if it is empty: it ends the watches of the document before this one
      ...page && { watch },
      ...page && pending.length > 0 && { pending }
    };
  }
  /** Stores the identity from a `registered` frame. */
  learn({ connection_id, session_id, page_id, token }, seq) {
    const successors = this.#successors({ id: session_id, token }, connection_id);
    this.#proofs = {
      connection: { id: connection_id, token, ...successors && { successors } },
      session: { id: session_id, token },
      page: { id: page_id, token, seq, jobs: this.jobs }
    };
    write(this.#local, CONNECTION, this.#proofs.connection);
    write(this.#session, SESSION, this.#proofs.session);
    write(this.#session, this.#slot, this.#proofs.page);
  }
  /** Stores the last `seq` that this page has received. */
  seen(seq) {
    if (!this.#proofs.page) return;
    this.#proofs.page.seq = seq;
    write(this.#session, this.#slot, this.#proofs.page);
  }
  /** Stores a durable job: its end will arrive, also after a reload. */
  jobStands(id, job) {
    if (!this.#proofs.page) return;
    this.#proofs.page.jobs = { ...this.jobs, [id]: job };
    write(this.#session, this.#slot, this.#proofs.page);
  }
  /** Removes a job: its end has arrived. */
  jobEnded(id) {
    const { [id]: ended2, ...jobs } = this.jobs;
    if (!this.#proofs.page || ended2 === void 0) return;
    this.#proofs.page.jobs = jobs;
    write(this.#session, this.#slot, this.#proofs.page);
  }
  /**
   * Returns whether another document of this tab has used the page since. This document has not received its frames.
   */
  overtaken() {
    const stored2 = read("page", this.#session, this.#slot).page;
    return stored2 !== void 0 && stored2.token !== this.#proofs.page?.token;
  }
  /** Forgets the page: the next `hello` opens a new page in the same session. */
  forgetPage() {
    delete this.#proofs.page;
    write(this.#session, this.#slot, void 0);
  }
  /** Forgets the session: the next `hello` opens a new page and a new session in the same connection. */
  forgetSession() {
    this.forgetPage();
    delete this.#proofs.session;
    write(this.#session, SESSION, void 0);
  }
  /**
   * Forgets the identity that the server has rejected, in memory and in storage. Entries that another document has
   * stored since are kept.
   */
  forgetRefused() {
    const { connection, session } = this.#proofs;
    this.forgetPage();
    this.#lost = session?.id ?? this.#lost;
    this.#proofs = {};
    if (stored("session", this.#session, SESSION)?.token === session?.token) write(this.#session, SESSION, void 0);
    if (this.#connection()?.token === connection?.token) write(this.#local, CONNECTION, void 0);
  }
  /** Joins the connection that other documents of this browser have stored since this one forgot everything. */
  recall() {
    const connection = this.#connection();
    const successor = this.#lost === void 0 ? void 0 : connection?.successors?.[this.#lost];
    const session = stored("session", this.#session, SESSION) ?? (isProof(successor) ? successor : void 0);
    this.#proofs = { ...connection && { connection }, ...session && { session } };
  }
  /** Returns the successors of lost sessions in the stored connection, with the successor of this session. */
  #successors(session, connection_id) {
    const standing = this.#connection();
    const known = standing?.id === connection_id && standing.successors || void 0;
    const lost = this.#lost;
    this.#lost = void 0;
    if (lost === void 0 || lost === session.id) return known;
    const { [lost]: _, ...others } = known ?? {};
    return Object.fromEntries([...Object.entries(others), [lost, session]].slice(-MAX_SUCCESSORS));
  }
  #connection() {
    return stored("connection", this.#local, CONNECTION);
  }
};
function stored(name2, storage2, key) {
  return read(name2, storage2, key)[name2];
}
function isProof(value) {
  const { id, token } = value ?? {};
  return typeof id === "string" && typeof token === "string";
}
function read(name2, storage2, key) {
  try {
    const proof = JSON.parse(storage2?.getItem(key) ?? "null");
    if (!isProof(proof)) return {};
    const jobs = typeof proof.jobs === "object" ? proof.jobs ?? {} : {};
    return { [name2]: { ...proof, seq: Number(proof.seq) || 0, jobs } };
  } catch {
    return {};
  }
}
function write(storage2, key, value) {
  try {
    if (value) storage2?.setItem(key, JSON.stringify(value));
    else storage2?.removeItem(key);
  } catch {
  }
}

// src/incoming.ts
var ACK_EVERY = 32;
var Incoming = class {
  #last = 0;
  #acked = 0;
  /** The last `seq` received. */
  get last() {
    return this.#last;
  }
  /** Continues behind `seq`. */
  restart(seq) {
    this.#last = seq;
    this.#acked = seq;
  }
  /** Classifies a frame. A correct server never causes a gap; accepting the frame would hide a missing one. */
  accept(seq) {
    if (seq <= this.#last) return "duplicate";
    if (seq > this.#last + 1) return "gap";
    this.#last = seq;
    return "new";
  }
  /** Whether some frames are not acknowledged yet. */
  get unacked() {
    return this.#last > this.#acked;
  }
  /** Whether so many frames are unacknowledged that waiting longer could fill the server's ring. */
  get due() {
    return this.#last - this.#acked >= ACK_EVERY;
  }
  /** Returns the `seq` to acknowledge now. */
  ack() {
    this.#acked = this.#last;
    return this.#last;
  }
};

// src/job.ts
var SubmittedJob = class extends Emitter {
  #accepted = new Deferred();
  #result = new Deferred();
  #request;
  /** The server has accepted it. */
  #stands = false;
  /** A reset happened: the reply to the submission may be lost, and the server is queried for the job. */
  #asked = false;
  #over = false;
  #cancelling = false;
  constructor(request) {
    super();
    this.#request = request;
  }
  get accepted() {
    return this.#accepted.promise;
  }
  get result() {
    return this.#result.promise;
  }
  cancel() {
    if (this.#over || this.#cancelling) return;
    if (!this.#request.sent()) return this.#request.giveUp(ended("cancelled"));
    this.#cancelling = true;
    if (this.#stands) this.#request.cancel();
  }
  take(frame) {
    switch (frame.type) {
      case "accepted":
        this.#stands = true;
        this.#accepted.resolve(String(frame["job"]));
        if (this.#cancelling) this.#request.cancel();
        return false;
      case "progress":
        this.emit("progress", progress(frame));
        return false;
      case "result":
        return this.#end(frame);
      default:
        if (frame["code"] === "uncertain" && !this.#stands && !this.#asked) return false;
        this.fail(serverError(frame));
        return true;
    }
  }
  fail(error) {
    this.#over = true;
    this.#accepted.reject(error);
    this.#result.reject(error);
  }
  reset() {
    this.#asked = true;
  }
  #end(frame) {
    this.#over = true;
    this.#accepted.resolve(String(frame["job"]));
    const error = failure(frame);
    if (error) this.#result.reject(error);
    else this.#result.resolve(frame["value"]);
    return true;
  }
};
function news(job, frame) {
  switch (frame.type) {
    case "progress":
      return { job, ...progress(frame) };
    case "result": {
      const error = failure(frame);
      const state = frame["state"];
      return error ? { job, state, error } : { job, state, value: frame["value"] };
    }
    case "error":
      return { job, error: serverError(frame) };
    default:
      return { job };
  }
}
function progress(frame) {
  const message = frame["message"];
  return { progress: Number(frame["progress"]), ...typeof message === "string" && { message } };
}
function failure(frame) {
  const state = frame["state"];
  return state === "succeeded" ? void 0 : ended(state, frame["error"]);
}
function ended(state, said = {}) {
  const { code = state, message = `the job was ${state}`, retryable = false } = said;
  return new PagewireError(code, message, retryable, state);
}

// src/jobs.ts
var MAX_PENDING = 256;
var Jobs = class {
  #requests;
  #identity;
  /** Jobs that have ended for this document. Later frames about them are late or repeated, and are ignored. */
  #over = /* @__PURE__ */ new Set();
  constructor(requests, identity) {
    this.#requests = requests;
    this.#identity = identity;
  }
  /** The ids under which this page waits for an end, including those from before a reload; the newest first. */
  get pending() {
    const ids = /* @__PURE__ */ new Set([...Object.keys(this.#identity.jobs), ...this.#requests.lasting]);
    return [...ids].reverse().slice(0, MAX_PENDING);
  }
  submit(kind, data, options) {
    let id = "";
    const job = new SubmittedJob({
      sent: () => this.#requests.sent(id),
      giveUp: (error) => this.#requests.giveUp(id, error),
      cancel: () => this.#requests.cancel(id)
    });
    try {
      id = this.#requests.begin({ ...options, type: "job", kind, data }, job);
    } catch (error) {
      job.fail(error);
    }
    return job;
  }
  /** Takes a frame with an id. Returns the event if no caller in this document waits for that job. */
  take(frame) {
    const id = String(frame["id"]);
    const known = this.#identity.jobs[id];
    const job = typeof frame["job"] === "string" ? frame["job"] : known;
    const ours = this.#requests.answer(frame);
    if (job === void 0 || this.#over.has(id)) return void 0;
    if (frame.type === "result" || frame.type === "error") {
      this.#over.add(id);
      this.#identity.jobEnded(id);
    } else if (known === void 0) {
      this.#identity.jobStands(id, job);
    }
    return ours ? void 0 : news(job, frame);
  }
};

// src/lifecycle.ts
function watchDocument(events) {
  if (typeof window === "undefined" || typeof document === "undefined") return () => void 0;
  const stop = new AbortController();
  const { signal } = stop;
  const visibility = () => document.hidden ? events.hidden() : events.wake();
  document.addEventListener("visibilitychange", visibility, { signal });
  window.addEventListener("online", () => events.wake(), { signal });
  window.addEventListener("pagehide", () => events.leave(), { signal });
  window.addEventListener("pageshow", (event) => event.persisted && events.comeback(), { signal });
  return () => stop.abort();
}

// src/link.ts
var SUBPROTOCOL = "pagewire.v1";
var REGISTER_MS = 15e3;
var PONG_MS = 5e3;
var ABNORMAL = 1006;
var Link = class {
  #socket;
  #events;
  #greeted = false;
  #registered = false;
  #over = false;
  #heardAt = Date.now();
  #quietMs = 0;
  /** Runs from opening to `registered`, then between two checks for silence, then from a ping to its reply. */
  #timer;
  #doubting = false;
  /** `hello` is asked for its members when the socket is open. */
  constructor(implementation, url, hello, events, patienceMs = REGISTER_MS) {
    this.#events = events;
    this.#socket = new implementation(url, [SUBPROTOCOL]);
    this.#timer = setTimeout(() => this.drop("the server did not answer"), patienceMs);
    this.#socket.onopen = () => this.#greet(hello());
    this.#socket.onmessage = (event) => this.#heard(event.data);
    this.#socket.onerror = () => void 0;
    this.#socket.onclose = (event) => this.#end(event.code, event.reason);
  }
  /** Whether `hello` was sent. */
  get greeted() {
    return this.#greeted;
  }
  /** Whether the server has accepted `hello`. */
  get registered() {
    return this.#registered;
  }
  /** Sends a frame. A closing socket drops it, and the page sends it again on the next one. */
  write(frame) {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }
  /** Pings the server, because the socket may be dead without a close event (sleep, a changed network). */
  doubt() {
    if (this.#over || !this.#registered || this.#doubting) return;
    this.#doubting = true;
    this.write({ type: "ping" });
    this.#arm(PONG_MS, () => this.drop("the server fell silent"));
  }
  /** Closes the socket without waiting for the other side. */
  drop(reason) {
    this.#socket.close();
    this.#end(ABNORMAL, reason);
  }
  /** Closes the link, permanently or for now. No more events are reported. */
  leave() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#socket.close(1e3);
  }
  #greet(hello) {
    this.#greeted = true;
    this.write({ type: "hello", ...hello });
  }
  #heard(data) {
    if (this.#over) return;
    this.#heardAt = Date.now();
    const frame = parse(data);
    if (!frame) return this.drop("the server sent something that is not a frame");
    if (frame.type === "registered") {
      this.#registered = true;
      const registered = frame;
      this.#quietMs = Math.max(1e3, registered.ping_ms * 2);
      this.#listen();
      this.#events.registered(registered);
      return;
    }
    if (this.#doubting) this.#listen();
    this.#events.frame(frame);
  }
  #listen() {
    this.#doubting = false;
    this.#arm(this.#quietMs, () => {
      const quiet = Date.now() - this.#heardAt;
      if (quiet >= this.#quietMs) this.doubt();
      else this.#listen();
    });
  }
  #arm(delay, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, delay);
  }
  #end(code, reason) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#events.closed(code, reason);
  }
};
function parse(data) {
  if (typeof data !== "string") return void 0;
  try {
    const frame = JSON.parse(data);
    const shaped = typeof frame === "object" && frame !== null && "type" in frame && typeof frame.type === "string";
    return shaped ? frame : void 0;
  } catch {
    return void 0;
  }
}

// src/move.ts
var MOVE_MS = 4e3;
var Move = class {
  #from;
  #urls;
  #page;
  #to;
  /** The address that the server named, for a page that loses its first socket before it has moved. */
  named;
  /** A second socket has said `hello`, so another node may have the page already. */
  #asked = false;
  /** The first socket has ended since. */
  #left = false;
  #timer;
  #ended = false;
  constructor(from, urls, delayMs2, page) {
    this.#from = from;
    this.#urls = urls;
    this.named = urls[0];
    this.#page = page;
    if (isHidden()) queueMicrotask(() => !this.#ended && this.#next());
    else this.#timer = setTimeout(() => this.#next(), delayMs2);
  }
  /** Whether a second socket waits for its `registered`. */
  get asking() {
    return this.#to?.greeted ?? false;
  }
  /** Handles the end of a socket. Returns whether the move goes on, so that the page need not notice. */
  ended(link) {
    if (link === this.#to) {
      this.#next();
      return true;
    }
    this.#asked ||= this.asking;
    this.#left = this.#asked;
    return this.#left;
  }
  /** Ends the move, because a second socket has the page, or the page needs none. */
  end(taken) {
    clearTimeout(this.#timer);
    this.#ended = true;
    if (this.#to !== taken) this.#to?.leave();
    if (taken) this.#from.leave();
  }
  #next() {
    this.#asked ||= this.asking;
    this.#to = void 0;
    for (let url; (url = this.#urls.shift()) !== void 0; ) {
      try {
        this.#to = this.#page.connect(url);
        return;
      } catch {
      }
    }
    this.#page.failed(this.#left);
  }
};
function targets(frame, own, registered) {
  const named = typeof frame["url"] === "string" && isFor(frame["url"], own) ? [frame["url"]] : [];
  return registered && !named.includes(own) ? [...named, own] : named;
}
function delayOf(frame) {
  const delay = Number(frame["retry_after_ms"]);
  return delay > 0 ? delay : 0;
}
function isFor(url, own) {
  try {
    const { protocol, hostname } = new URL(url);
    return /^wss?:$/.test(protocol) && (!isLoopback(hostname) || isLoopback(new URL(own).hostname));
  } catch {
    return false;
  }
}
function isHidden() {
  return typeof document !== "undefined" && document.hidden;
}
function isLoopback(hostname) {
  return hostname === "localhost" || hostname === "[::1]" || /^127\./.test(hostname);
}

// src/resident.ts
var PageObject = class {
  /** Its class, as `hello` names it; `undefined` for a page without an object. */
  resident;
  #call;
  constructor(resident, call2) {
    this.resident = typeof resident === "string" ? { class: resident } : resident;
    this.#call = call2;
  }
  call(method, params, options) {
    if (!this.resident) {
      const reason = "the page has no object: its option `resident` is missing";
      return Promise.reject(new PagewireError("malformed", reason));
    }
    const { class: name2, pool } = this.resident;
    return this.#call(`${name2}.${method}`, params, { ...pool !== void 0 && { pool }, ...options });
  }
};

// src/backoff.ts
var LONGEST_MS = 36e5;
function delayMs(attempt, backoff, advisedMs, random) {
  const window2 = Math.min(backoff.cap_ms, backoff.base_ms * 2 ** Math.min(attempt, 30));
  return Math.min(LONGEST_MS, Math.round(advisedMs + random() * window2));
}

// src/retry.ts
var STABLE_MS = 5e3;
var Retry = class {
  #backoff;
  #failures = 0;
  #openedAt = Infinity;
  #timer;
  /** The server has asked for the wait, so nothing shortens it. */
  advised = false;
  constructor(backoff) {
    this.#backoff = backoff;
  }
  /** Notes that a socket is registered. */
  opened() {
    this.#openedAt = Date.now();
  }
  /** Attempts again after a wait of at least `advisedMs`. Returns the wait in ms. */
  schedule(advisedMs, attempt) {
    if (Date.now() - this.#openedAt >= STABLE_MS) this.#failures = 0;
    this.#openedAt = Infinity;
    const delay = delayMs(this.#failures++, this.#backoff, advisedMs, Math.random);
    this.advised = advisedMs > 0;
    this.#timer = setTimeout(attempt, delay);
    return delay;
  }
  cancel() {
    clearTimeout(this.#timer);
  }
};

// src/route.ts
var Route = class {
  own;
  #detour;
  /** The page could not be opened where it belongs, and has to be opened where it arrives. */
  stay = false;
  constructor(own) {
    this.own = own;
  }
  /** The addresses for the next socket, in the order in which they are tried. */
  get urls() {
    return this.#detour === void 0 ? [this.own] : [this.#detour, this.own];
  }
  /** Notes that a socket at this address is registered. */
  opened(url) {
    this.#detour = url === this.own ? void 0 : url;
    this.stay = false;
  }
  /** Notes that a socket has ended. `named` is the address of a move that had not begun. */
  lost(registered, named) {
    if (!registered) this.#detour = void 0;
    else if (named !== void 0) this.#detour = named;
  }
};

// src/token.ts
var TokenSource = class {
  #provider;
  #token;
  #renewed = false;
  constructor(source) {
    if (typeof source === "function") this.#provider = source;
    else this.#token = source;
  }
  /** Returns the current token; `undefined` for an anonymous page. */
  async get() {
    this.#token ??= await this.#provider?.();
    return this.#token;
  }
  /** The token that the last socket used, or a later one. */
  get current() {
    return this.#token;
  }
  /** Replaces the token by one that the server has accepted. */
  replace(token) {
    this.#token = token;
  }
  /** Notes that the server has accepted the token. */
  accepted() {
    this.#renewed = false;
  }
  /**
   * Handles a rejected token. Returns whether reconnecting makes sense: with a new token from the provider, once or
   * (`again`) repeatedly; without a token here (a cookie carries it), if the server permits it.
   */
  renew(again) {
    if (!this.#provider) return again && this.#token === void 0;
    const sensible = again || !this.#renewed;
    this.#renewed = true;
    this.#token = void 0;
    return sensible;
  }
};

// src/subscriber.ts
var Subscriber = class extends Emitter {
  topic;
  token;
  #room;
  #ready = new Deferred();
  #ended;
  constructor(topic, token, room) {
    super();
    this.topic = topic;
    this.token = token;
    this.#room = room;
  }
  get ready() {
    return this.#ready.promise;
  }
  async send(payload) {
    if (this.#ended) throw this.#ended;
    return this.#room.send(payload);
  }
  close() {
    this.#end(new PagewireError("closed", "the subscription was closed"));
    return this.#room.leave(this);
  }
  /** Reports that the page is subscribed. */
  stand() {
    this.#ready.resolve();
  }
  take(message) {
    this.emit("message", message);
  }
  /** Reports that the page could not subscribe for now. */
  trouble(error) {
    this.emit("error", error);
  }
  /** Reports that the page may not subscribe. */
  refuse(error) {
    this.#end(error);
    this.emit("error", error);
  }
  #end(error) {
    this.#ended ??= error;
    this.#ready.reject(error);
  }
};

// src/topic.ts
var Topic = class {
  #name;
  #page;
  #subscribers = /* @__PURE__ */ new Set();
  #live = false;
  /** `asked`: the request is on its way to the server, over any number of sockets. */
  #state = "unknown";
  /** Incremented so that an attempt notices that it is obsolete. */
  #turn = 0;
  #failures = 0;
  #retry;
  /** Settled once messages sent from now on find the page subscribed. */
  #standing = new Deferred();
  constructor(name2, page) {
    this.#name = name2;
    this.#page = page;
  }
  subscribe(token) {
    const subscriber = new Subscriber(this.#name, token, this);
    this.#subscribers.add(subscriber);
    if (this.#state === "stands") subscriber.stand();
    return subscriber;
  }
  async send(payload) {
    await this.#standing.promise;
    return ask(this.#page.requests, { type: "send", to: { topic: this.#name }, payload });
  }
  async leave(subscriber) {
    if (!this.#subscribers.delete(subscriber) || this.#subscribers.size > 0) return;
    const heard = this.#state !== "unknown";
    this.#end(new PagewireError("closed", "the subscription was closed"));
    if (heard) await this.#page.unsubscribe();
  }
  /** Handles a registered socket; `kept` means that the page still has its subscriptions. */
  open(kept) {
    this.#live = true;
    if (!kept) this.#state = "unknown";
    if (this.#state === "stands") this.#standing.resolve();
    else if (this.#state === "unknown") void this.#ask();
  }
  /** Handles a lost socket, or a next one that was not registered. */
  pause() {
    const wasLive = this.#live;
    this.#live = false;
    clearTimeout(this.#retry);
    if (wasLive && this.#state === "stands") this.#standing = new Deferred();
  }
  /** Handles a closed page; the next page subscribes again. */
  close(error) {
    this.#turn += 1;
    this.#state = "unknown";
    this.#standing.reject(error);
    this.#standing = new Deferred();
  }
  take(message) {
    for (const subscriber of [...this.#subscribers]) {
      if (this.#subscribers.has(subscriber)) subscriber.take(message);
    }
  }
  async #ask() {
    const turn = ++this.#turn;
    const overtaken = () => turn !== this.#turn;
    this.#state = "asked";
    const token = await this.#token().catch((error) => {
      if (!overtaken()) this.#fail(new PagewireError("unauthenticated", `no token to be had: ${String(error)}`, true));
      return void 0;
    });
    if (overtaken() || this.#state !== "asked") return;
    if (!this.#live) return void (this.#state = "unknown");
    this.#page.requests.add({ type: "subscribe", topic: this.#name, token }, {
      take: (answer) => {
        if (overtaken()) return true;
        if (answer.type === "error") this.#fail(serverError(answer));
        else this.#stand();
        return true;
      },
      fail: () => {
        if (!overtaken()) this.#state = "unknown";
      }
    });
  }
  /** Returns a token from the newest subscription that provides one. */
  async #token() {
    return [...this.#subscribers].reverse().find(({ token }) => token)?.token?.();
  }
  #stand() {
    this.#state = "stands";
    this.#failures = 0;
    this.#standing.resolve();
    for (const subscriber of this.#subscribers) subscriber.stand();
  }
  #fail(error) {
    const subscribers = [...this.#subscribers];
    this.#state = "unknown";
    if (!error.retryable) {
      this.#subscribers.clear();
      this.#end(error);
      return subscribers.forEach((subscriber) => subscriber.refuse(error));
    }
    if (this.#live) {
      const delay = delayMs(this.#failures++, this.#page.backoff, 0, Math.random);
      this.#retry = setTimeout(() => void this.#ask(), delay);
    }
    for (const subscriber of subscribers) subscriber.trouble(error);
  }
  #end(error) {
    this.#turn += 1;
    clearTimeout(this.#retry);
    this.#standing.reject(error);
    this.#page.ended();
  }
};

// src/topics.ts
var Topics = class {
  #requests;
  #backoff;
  #topics = /* @__PURE__ */ new Map();
  /** Topics with an unsubscribe request that has no reply yet. */
  #leaving = /* @__PURE__ */ new Set();
  #live = false;
  constructor(requests, backoff) {
    this.#requests = requests;
    this.#backoff = backoff;
  }
  subscribe(name2, { token }) {
    const known = this.#topics.get(name2);
    if (known) return known.subscribe(token);
    const topic = this.#begin(name2);
    const subscription = topic.subscribe(token);
    if (this.#live) topic.open(true);
    return subscription;
  }
  /** Handles a registered socket. A recovered page still has its topics. */
  open(recovered) {
    this.#live = true;
    for (const topic of this.#topics.values()) topic.open(recovered === "recovered");
  }
  /** Handles a lost socket. */
  pause() {
    this.#live = false;
    for (const topic of this.#topics.values()) topic.pause();
  }
  /** Ends all subscriptions to this page, which gets no other socket. */
  close(error) {
    for (const topic of this.#topics.values()) topic.close(error);
  }
  take(message) {
    if (message.topic === void 0) return;
    const topic = this.#topics.get(message.topic);
    if (topic) topic.take(message);
    else if (!this.#leaving.has(message.topic)) void this.#unsubscribe(message.topic);
  }
  #begin(name2) {
    const topic = new Topic(name2, {
      requests: this.#requests,
      backoff: this.#backoff,
      ended: () => this.#topics.delete(name2),
      unsubscribe: () => this.#unsubscribe(name2)
    });
    this.#topics.set(name2, topic);
    return topic;
  }
  /**
   * Unsubscribes. After any reply the server has processed it; a message that still arrives leads to another request.
   */
  #unsubscribe(topic) {
    this.#leaving.add(topic);
    return new Promise((resolve) => {
      const over = () => {
        this.#leaving.delete(topic);
        resolve();
        return true;
      };
      this.#requests.add({ type: "unsubscribe", topic }, { take: over, fail: over });
    });
  }
};

// src/path.ts
var MAX_DEPTH = 32;
var MAX_KEY_BYTES = 256;
var UNFINISHED = /(?<!\\)(?:\\\\)*\\$/;
function escape(key) {
  return key.replace(/[.\\]|^#/g, "\\$&");
}
function join(...paths) {
  if (paths.some((path) => UNFINISHED.test(path))) throw malformed(paths.join(", "));
  return paths.filter((path) => path !== "").join(".");
}
function split(path) {
  if (path === "") return [];
  const keys = [""];
  for (let place = 0, begin = 0; place < path.length; place++) {
    const letter = path.charAt(place);
    if (letter === ".") {
      begin = place + 1;
      keys.push("");
    } else if (letter === "#" && place === begin) {
      throw malformed(path);
    } else {
      keys.push(keys.pop() + (letter === "\\" ? path.charAt(++place) : letter));
    }
  }
  if (UNFINISHED.test(path) || keys.length > MAX_DEPTH || !keys.every(legal)) throw malformed(path);
  return keys;
}
function legal(key) {
  return key !== "" && new TextEncoder().encode(key).length <= MAX_KEY_BYTES;
}
function malformed(path) {
  return new PagewireError("malformed", `not a path of keys: ${path}`);
}

// src/apply.ts
function apply(value, steps) {
  const ours = /* @__PURE__ */ new Set();
  const open = (node) => {
    if (ours.has(node)) return node;
    const copy = isBranch(node) ? { ...node } : {};
    ours.add(copy);
    return copy;
  };
  const at = (node, [key, ...below], value2) => {
    if (key === void 0) return value2;
    const child = isBranch(node) && Object.hasOwn(node, key) ? node[key] : void 0;
    if (value2 === void 0 && child === void 0) return node;
    const branch = open(node);
    const next = at(child, below, value2);
    if (next === void 0) delete branch[key];
    else Object.defineProperty(branch, key, { value: next, writable: true, enumerable: true, configurable: true });
    return branch;
  };
  return steps.reduce((whole, step) => at(whole, step.keys, step.value), value);
}
function same(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
function isBranch(node) {
  return typeof node === "object" && node !== null && !Array.isArray(node);
}

// src/replica.ts
var Replica = class {
  /** The keys of the path. */
  #at;
  /** The server has sent the value. */
  #known = false;
  #value;
  #revision = 0;
  constructor(at) {
    this.#at = at;
  }
  /** Whether the server has sent anything yet. */
  get known() {
    return this.#known;
  }
  get value() {
    return this.#value;
  }
  get revision() {
    return this.#revision;
  }
  /**
   * Applies a frame. Returns the changes that it made, with paths below this one; `undefined` if the frame belongs to
   * an earlier watch of the same path, and the snapshot is still to come.
   */
  take(frame) {
    if (!this.#known && (frame.changes || frame.removed)) return void 0;
    if (!frame.changes) return this.#replace(frame);
    const steps = frame.changes.map(({ path, value }) => {
      const keys = split(path);
      return { keys: keys.slice(this.#at.length), value: keys.length === 0 ? value ?? {} : value };
    });
    this.#value = apply(this.#value, steps);
    this.#revision = frame.revision;
    return frame.changes.map((change, n) => ({ ...change, path: (steps[n]?.keys ?? []).map(escape).join(".") }));
  }
  #replace({ snapshot, revision = 0 }) {
    this.#known = true;
    this.#revision = revision;
    if (same(this.#value, snapshot)) return [];
    this.#value = snapshot;
    return [snapshot === void 0 ? { path: "", delete: true } : { path: "", value: snapshot }];
  }
};

// src/view.ts
var LiveView = class extends Emitter {
  level;
  path;
  #ready = new Deferred();
  #tree;
  #value;
  #revision = 0;
  constructor(level, path, tree) {
    super();
    this.level = level;
    this.path = path;
    this.#tree = tree;
  }
  get ready() {
    return this.#ready.promise;
  }
  get value() {
    return this.#value;
  }
  get revision() {
    return this.#revision;
  }
  async set(path, value, options) {
    return this.#tree.set(join(this.path, path), value, options);
  }
  delete(path, options) {
    return this.patch([{ path, delete: true }], options);
  }
  async patch(edits, options) {
    return this.#tree.patch(edits.map((edit) => ({ ...edit, path: join(this.path, edit.path) })), options);
  }
  close() {
    this.#tree.close();
  }
  /** Shows the value that the server has sent. */
  show({ value, revision }, news2) {
    this.#value = value;
    this.#revision = revision;
    this.#ready.resolve();
    if (news2) this.emit("change", news2);
  }
  /** Reports that the tree was removed. */
  removed() {
    this.emit("removed", {});
  }
  /** Reports that the server does not let this page watch the path. */
  refuse(error) {
    this.#ready.reject(error);
    this.emit("error", error);
  }
};

// src/trees.ts
var ROOM = 8192;
var Trees = class {
  #requests;
  #self;
  #watched = /* @__PURE__ */ new Map();
  /** Paths with an unwatch request that has no reply yet. */
  #leaving = /* @__PURE__ */ new Set();
  #live = false;
  constructor(requests, self) {
    this.#requests = requests;
    this.#self = self;
  }
  /**
   * Returns the watched paths for a `hello` that resumes, as many as fit in. The server ends the watches that are not
   * named; they are requested again afterwards.
   */
  places() {
    let room = ROOM;
    const named = [];
    for (const watched of this.#watched.values()) {
      if ((room -= JSON.stringify(watched.place).length) > 0) named.push(watched.place);
      else watched.asked = false;
    }
    return named;
  }
  watch(level, path) {
    const keys = split(path);
    const place = { level, path: keys.map(escape).join(".") };
    const watched = this.#watched.get(name(place)) ?? this.#begin(place, keys);
    const view = new LiveView(level, place.path, {
      patch: (edits, options) => this.patch(level, edits, options),
      set: (at, value, options) => this.set(level, at, value, options),
      close: () => this.#close(watched, view)
    });
    watched.views.add(view);
    if (watched.replica.known) view.show(watched.replica);
    return view;
  }
  async get(level, path) {
    const { value, revision } = await ask(this.#requests, { type: "get_data", level, path });
    return { value, revision };
  }
  set(level, path, value, options = {}) {
    return this.#write({ ...options, type: `set_${level}_data`, path, value });
  }
  patch(level, changes, options = {}) {
    return this.#write({ ...options, type: "patch", level, changes });
  }
  /**
   * Handles a registered socket. A recovered page receives updates of the paths that it watched before, if `hello`
   * named them; after a reset the server starts with the named paths.
   */
  open(recovered, named) {
    this.#live = true;
    for (const watched of this.#watched.values()) {
      if (recovered !== "recovered") watched.asked = named.includes(watched.place);
      if (!watched.asked) this.#ask(watched);
    }
  }
  /** Handles a lost socket. */
  pause() {
    this.#live = false;
  }
  take(frame) {
    const place = { level: frame.level, path: frame.path ?? "" };
    const watched = this.#watched.get(name(place));
    if (!watched) return this.#leave(place);
    const { replica, views } = watched;
    const changes = replica.take(frame);
    if (!changes) return;
    const news2 = changes.length > 0 ? this.#news(changes) : void 0;
    for (const view of [...views]) {
      if (!views.has(view)) continue;
      view.show(replica, news2);
      if (frame.removed) view.removed();
    }
  }
  async #write(frame) {
    return (await ask(this.#requests, frame)).revision;
  }
  #begin(place, keys) {
    const watched = { place, replica: new Replica(keys), views: /* @__PURE__ */ new Set(), asked: false };
    this.#watched.set(name(place), watched);
    if (this.#live) this.#ask(watched);
    return watched;
  }
  #ask(watched) {
    watched.asked = true;
    this.#requests.add({ type: "watch", ...watched.place }, {
      take: (answer) => {
        if (answer.type === "error") this.#refuse(watched, serverError(answer));
        return true;
      },
      fail: () => watched.asked = false
    });
  }
  #refuse(watched, error) {
    this.#forget(watched);
    watched.asked = false;
    for (const view of watched.views) view.refuse(error);
  }
  #close(watched, view) {
    if (!watched.views.delete(view) || watched.views.size > 0) return;
    this.#forget(watched);
    if (watched.asked) this.#leave(watched.place);
  }
  /** Forgets a path, unless another watch of the same path has begun. */
  #forget(watched) {
    const key = name(watched.place);
    if (this.#watched.get(key) === watched) this.#watched.delete(key);
  }
  /** Ends a watch at the server, with one request at a time. Without a socket it is repeated at the next update. */
  #leave(place) {
    const key = name(place);
    if (!this.#live || this.#leaving.has(key)) return;
    this.#leaving.add(key);
    const over = () => this.#leaving.delete(key);
    this.#requests.add({ type: "unwatch", ...place }, { take: () => (over(), true), fail: over });
  }
  #news(changes) {
    const self = base(this.#self());
    const own = changes.every(({ from }) => from !== void 0 && base(from) === self);
    return { changes, from: changes.at(-1)?.from, own };
  }
};
function name({ level, path }) {
  return `${level}:${path}`;
}
function base(page) {
  return page?.split("|")[0];
}

// src/pagewire.ts
var LOST = 1006;
var Pagewire = class extends Emitter {
  /** The object of a resident page: `page.object.call("add", { by: 2 })`. */
  object;
  #route;
  #retry;
  #WebSocket;
  #identity;
  #tokens;
  #requests;
  #jobs;
  #trees;
  #topics;
  #claim;
  #incoming = new Incoming();
  #acks = new Acks(this.#incoming, () => this.#acknowledge());
  #state = "closed";
  #registered;
  #opening;
  #link;
  #move;
  /** Incremented so that a waiting attempt notices that it is obsolete. */
  #turn = 0;
  /** The document is in the back/forward cache. */
  #away = false;
  #unwatch = () => void 0;
  constructor(options = {}) {
    super();
    this.#route = new Route(socketUrl(options.url));
    const backoff = { base_ms: 500, cap_ms: 2e4, ...options.backoff };
    this.#retry = new Retry(backoff);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError("there is no global WebSocket here: pass one as an option");
    const { local_storage: local = storage("localStorage"), session_storage: session = storage("sessionStorage") } = options;
    this.#identity = new Identity(local, session, options.slot ?? slot(), options.ids);
    this.#claim = new Claim(this.#identity);
    this.#tokens = new TokenSource(options.token);
    this.#requests = new Requests(options.max_pending ?? 1e3);
    this.#jobs = new Jobs(this.#requests, this.#identity);
    this.#trees = new Trees(this.#requests, () => this.#registered?.page_id);
    this.#topics = new Topics(this.#requests, backoff);
    this.object = new PageObject(options.resident, (...args) => call(this.#requests, ...args));
    this.#incoming.restart(this.#identity.page?.seq ?? 0);
  }
  /** The connection state. */
  get state() {
    return this.#state;
  }
  /** The identity and the node of this page; `undefined` before the first registration. */
  get registered() {
    return this.#registered;
  }
  /**
   * Opens the page, or resumes it after a reload. Resolves with the first registration and rejects when the server
   * refuses; in between it keeps trying. After a refusal (for example `replaced`) it may be called again and opens a
   * new page.
   */
  connect() {
    if (this.#opening) return this.#opening.promise;
    this.#opening = new Deferred();
    this.#away = false;
    this.#unwatch = watchDocument({
      hidden: () => this.#acks.now(),
      leave: () => this.#leave(),
      comeback: () => {
        this.#away = false;
        void this.#attempt();
      },
      wake: () => this.#wake()
    });
    void this.#attempt();
    return this.#opening.promise;
  }
  /** Closes the page for good: a later `connect()` opens another one. */
  close() {
    this.#identity.forgetPage();
    this.#finish({}, new PagewireError("closed", "the page was closed"));
  }
  call(method, params, options) {
    return call(this.#requests, method, params, options);
  }
  job(kind, data, options = {}) {
    return this.#jobs.submit(kind, data, options);
  }
  /** Sends a message to a page, or to all pages of a session, connection, user or topic. */
  send(to, payload) {
    return ask(this.#requests, { type: "send", to, payload });
  }
  /** Sends a message to all pages of this session. */
  broadcast(payload) {
    return ask(this.#requests, { type: "broadcast_session", payload });
  }
  /**
   * Chooses the lane of this user (or of this browser, without a user) in a pool, or the base lane, where the rollout allows it;
   * `null` takes the choice back. Resolves with the lane that follows.
   */
  rollout(pool, lane) {
    return ask(this.#requests, { type: "rollout", pool, lane });
  }
  /** Subscribes to a topic until the subscription is closed. All subscriptions of one topic share one at the server. */
  subscribe(topic, options = {}) {
    return this.#topics.subscribe(topic, options);
  }
  /** Watches a path of a tree and keeps its value current. Throws if the path is invalid. */
  watch(level, path = "") {
    return this.#trees.watch(level, path);
  }
  /** Reads the value at a path of a tree once. */
  get(level, path = "") {
    return this.#trees.get(level, path);
  }
  /** Writes a value into a tree and creates missing branches above it. Resolves with the tree's revision. */
  set(level, path, value, options) {
    return this.#trees.set(level, path, value, options);
  }
  /** Applies all of these edits of a tree or none. Resolves with the tree's revision. */
  patch(level, edits, options) {
    return this.#trees.patch(level, edits, options);
  }
  /** Logs in, or renews a token before it expires. Later sockets use it too. */
  async auth(token) {
    await ask(this.#requests, { type: "auth", token });
    this.#tokens.replace(token);
  }
  async #attempt() {
    const turn = ++this.#turn;
    this.#retry.cancel();
    this.#change(this.#identity.page ? "recovering" : "connecting", {});
    try {
      await this.#claim.settle();
      await this.#tokens.get();
      if (turn === this.#turn) this.#dial();
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#claim.leave();
      const reason = `no token to be had: ${String(error)}`;
      this.emit("error", new PagewireError("unauthenticated", reason, true));
      this.#wait(0, { reason });
    }
  }
  #hello() {
    const hello = this.#identity.hello(this.#incoming.last, this.#trees.places(), this.#jobs.pending);
    const token = this.#tokens.current;
    const { resident } = this.object;
    const known = { ...hello, ...token && { token }, ...resident && { resident }, features: ["move"] };
    return { ...known, ...this.#route.stay && { stay: true } };
  }
  #dial() {
    const hello = this.#hello();
    let reason = "";
    for (const url of this.#route.urls) {
      try {
        this.#link = this.#connect(url, () => hello, hello);
        return;
      } catch (error) {
        reason = String(error);
      }
    }
    this.#finish({ reason }, new PagewireError("closed", reason));
  }
  #connect(url, hello, said, patienceMs) {
    const greet = () => said = hello();
    const events = {
      registered: (frame) => this.#open(frame, said, link, url),
      frame: (frame) => {
        if (link === this.#link) this.#take(frame, link);
      },
      closed: (code, reason) => this.#lost(code, reason, said, link)
    };
    const link = new Link(this.#WebSocket, url, greet, events, patienceMs);
    return link;
  }
  /** Handles `move`: a second socket takes the page over. */
  #leaveFor(frame, link) {
    if (this.#move) return;
    const connect = (url) => this.#connect(url, () => this.#handOver(), {}, MOVE_MS);
    const failed = (left) => this.#remain(link, left);
    const urls = targets(frame, this.#route.own, link.registered);
    this.#move = new Move(link, urls, delayOf(frame), { connect, failed });
  }
  /** Returns `hello` for the second socket. From here on the page sends nothing until one of the two has it. */
  #handOver() {
    const hello = this.#hello();
    this.#hush();
    return { ...hello, stay: true };
  }
  /** Handles a move that found no other node. */
  #remain(link, left) {
    this.#move = void 0;
    if (!link.registered) this.#route.stay = true;
    if (left) this.#lost(LOST, "", {}, link);
    else if (!link.registered) link.write({ type: "hello", ...this.#hello() });
    else {
      this.#requests.continue((text) => link.write(text));
      this.#trees.open("recovered", []);
      this.#topics.open("recovered");
    }
  }
  #open(frame, hello, link, url) {
    const again = this.#registered !== void 0;
    this.#move?.end(link === this.#link ? void 0 : link);
    this.#move = void 0;
    this.#link = link;
    this.#route.opened(url);
    if (frame.recovered !== "recovered") this.#incoming.restart(frame.seq);
    this.#registered = frame;
    this.#retry.opened();
    this.#identity.learn(frame, this.#incoming.last);
    this.#claim.hold(frame.page_id);
    this.#tokens.accepted();
    this.#change("open", {});
    this.emit("registered", frame);
    this.#requests.open(frame, (text) => link.write(text));
    this.#trees.open(frame.recovered, hello.watch ?? []);
    this.#topics.open(frame.recovered);
    this.#acks.arrived();
    if (frame.recovered === "reset" || frame.recovered === "new" && again) {
      this.emit("reset", { reason: "the server could not continue where this page was" });
    }
    this.#opening?.resolve(frame);
  }
  #take(frame, link) {
    if (frame.seq !== void 0) {
      const news2 = this.#incoming.accept(frame.seq);
      if (news2 === "duplicate") return;
      if (news2 === "gap") return link.drop(`frame ${this.#incoming.last + 1} is missing`);
      this.#acks.arrived();
    }
    switch (frame.type) {
      case "message":
        this.emit("message", frame);
        return this.#topics.take(frame);
      case "data":
        return this.#trees.take(frame);
      case "accepted":
      case "progress":
      case "result":
        return this.#answer(frame);
      case "error":
        if (frame["id"] !== void 0) this.#answer(frame);
        else this.emit("error", serverError(frame));
        return;
      case "reset":
        return this.emit("reset", { reason: String(frame["reason"]) });
      case "identity":
        return this.#identify(String(frame["user"]));
      case "resident":
        return this.emit("resident", frame);
      case "address":
        return this.#readdress(String(frame["page_id"]), String(frame["token"]));
      case "move":
        return this.#leaveFor(frame, link);
      case "pong":
        return;
      default:
        return this.emit("frame", frame);
    }
  }
  #answer(frame) {
    const news2 = this.#jobs.take(frame);
    if (news2) this.emit("job", news2);
  }
  #identify(user) {
    if (this.#registered) this.#registered = { ...this.#registered, user };
    this.emit("identity", { user });
  }
  /** Handles a new number of the node; the page is the same. */
  #readdress(page_id, token) {
    if (!this.#registered) return;
    this.#registered = { ...this.#registered, page_id, token, node: page_id.slice(page_id.indexOf("|") + 1) };
    this.#identity.learn(this.#registered, this.#incoming.last);
    this.#claim.hold(page_id);
    this.emit("address", { page_id });
  }
  #lost(code, text, hello, link) {
    if (this.#move?.ended(link)) return;
    if (!link.registered && this.#move) this.#route.stay = true;
    this.#route.lost(link.registered, this.#move?.named);
    const { reconnect, renewToken, forgetPage, refusesIds, advisedMs, reason, ending: ending2 } = verdict(code, text);
    this.#detach();
    if (forgetPage) this.#identity.forgetPage();
    const anew = refusesIds && !link.registered && hello.resume !== void 0 && !(renewToken && hello.token);
    if (anew) this.#identity.forgetRefused();
    const back = anew || (renewToken ? this.#tokens.renew(reconnect) : reconnect);
    const change = { code, ...reason && { reason } };
    if (back) this.#wait(advisedMs, change);
    else this.#finish(change, new PagewireError(ending2, reason || `the server closed with ${code}`));
  }
  #wait(advisedMs, change) {
    const delay = this.#retry.schedule(advisedMs, () => void this.#attempt());
    this.#change("waiting", { ...change, retry_at: Date.now() + delay });
  }
  /** Handles a visible document or a network that is back: skips the back-off, unless the server asked for it. */
  #wake() {
    if (this.#link) this.#link.doubt();
    else if (this.#state === "waiting" && !this.#retry.advised && !this.#away) void this.#attempt();
  }
  /** Handles an unloaded document: the next document of this tab continues from here, or this one if it returns. */
  #leave() {
    this.#away = true;
    this.#acks.now();
    this.#turn += 1;
    this.#link?.leave();
    this.#detach();
    this.#claim.release();
    this.#change("waiting", { reason: "the document is away" });
  }
  #finish(change, error) {
    this.#turn += 1;
    this.#unwatch();
    this.#link?.leave();
    this.#detach();
    this.#claim.release();
    this.#requests.close();
    this.#topics.close(error);
    this.#incoming.restart(this.#identity.page ? this.#incoming.last : 0);
    const opening = this.#opening;
    this.#opening = void 0;
    this.#change("closed", change);
    opening?.reject(error);
  }
  #detach() {
    this.#retry.cancel();
    this.#acks.stop();
    this.#move?.end();
    this.#move = void 0;
    this.#link = void 0;
    this.#claim.leave();
    this.#hush();
  }
  #hush() {
    this.#requests.pause();
    this.#trees.pause();
    this.#topics.pause();
  }
  #acknowledge() {
    if (this.#move?.asking) return false;
    const seq = this.#incoming.ack();
    this.#identity.seen(seq);
    this.#link?.write({ type: "ack", seq });
    return true;
  }
  #change(state, change) {
    const previous = this.#state;
    this.#state = state;
    if (state !== previous) this.emit("state", { ...change, state, previous });
  }
};
export {
  Pagewire,
  PagewireError,
  escape,
  join,
  split
};
