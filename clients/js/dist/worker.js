// Pagewire's handlers in Node, built from clients/js/src: do not edit. Apache-2.0

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

// src/worker/app.ts
import { createConnection } from "node:net";
import { relative } from "node:path";

// src/worker/context.ts
import { setImmediate as nextTurn } from "node:timers/promises";

// src/worker/errors.ts
var Conflict = class extends PagewireError {
  constructor(message, retryable = false) {
    super("conflict", message, retryable);
    this.name = "Conflict";
  }
};
var Retry = class extends Error {
  afterMs;
  constructor(message = "the handler wants to be tried again", options = {}) {
    super(message);
    this.name = "Retry";
    this.afterMs = options.afterMs;
  }
};
var Fail = class extends Error {
  code;
  constructor(code, message) {
    super(message);
    this.name = "Fail";
    this.code = code;
  }
};
var Cancelled = class extends Error {
  reason;
  constructor(reason) {
    super(`the work has to stop: ${reason}`);
    this.name = "Cancelled";
    this.reason = reason;
  }
};

// src/worker/lock.ts
var TTL_MS = 3e4;
async function acquire(requests, name, options) {
  const { ttlMs = TTL_MS, waitMs } = options;
  const params = { name, ttl_ms: ttlMs, ...waitMs !== void 0 && { wait_ms: waitMs } };
  const { token, ttl_ms } = await requests.ask("lock.acquire", params);
  return new HeldLock(requests, name, token, ttl_ms);
}
var HeldLock = class {
  name;
  token;
  #requests;
  #ttlMs;
  #timer;
  /** When the lease ends. It is counted from the answer, because a request that waits takes longer than the lease. */
  #until;
  constructor(requests, name, token, ttlMs) {
    this.name = name;
    this.token = token;
    this.#requests = requests;
    this.#ttlMs = ttlMs;
    this.#until = performance.now() + ttlMs;
    this.#timer = setInterval(() => void this.#renew(), ttlMs / 3);
    this.#timer.unref();
  }
  get held() {
    return performance.now() < this.#until;
  }
  async release() {
    if (!this.#drop()) return;
    await this.#requests.keep("lock.release", { name: this.name, token: this.token });
  }
  [Symbol.asyncDispose]() {
    return this.release();
  }
  async #renew() {
    const until = performance.now() + this.#ttlMs;
    try {
      await this.#requests.keep("lock.renew", { name: this.name, token: this.token, ttl_ms: this.#ttlMs });
      if (this.#until > 0) this.#until = until;
    } catch (error2) {
      if (!(error2 instanceof PagewireError) || !error2.retryable) this.#drop();
    }
  }
  /** Ends the renewal. Returns whether the lock was not dropped before. */
  #drop() {
    clearInterval(this.#timer);
    const was = this.#until > 0;
    this.#until = 0;
    return was;
  }
};

// src/worker/log.ts
import { inspect } from "node:util";

// src/worker/wire.ts
import { isUtf8 } from "node:buffer";
var LIMIT = 1 << 20;
var LEVELS = 64;
var PREFIX = 4;
var BrokenWire = class extends Error {
};
function encode(value) {
  if (typeof value === "function" || typeof value === "symbol") throw new TypeError(`it is a ${typeof value}`);
  const text = JSON.stringify(value) ?? "null";
  if (text.includes("null") || text.includes("\\ud")) JSON.stringify(value, strict);
  if (text.length > 2 * LEVELS && levels(text) > LEVELS) throw new TypeError(`it has more than ${LEVELS} levels`);
  return text;
}
function strict(key, value) {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${key || "it"} is ${value}`);
  const text = typeof value === "string" ? value : "";
  if (!text.isWellFormed() || !key.isWellFormed()) throw new TypeError("a text has half of a surrogate pair");
  return value;
}
function levels(text) {
  let level = 0;
  let most = 0;
  for (let place = 0; place < text.length; place++) {
    const letter = text[place];
    if (letter === '"') place = endOfString(text, place);
    else if (letter === "[" || letter === "{") most = Math.max(most, ++level);
    else if (letter === "]" || letter === "}") level--;
  }
  return most;
}
function endOfString(text, begin) {
  let end = text.indexOf('"', begin + 1);
  while (end > 0 && escaped(text, end)) end = text.indexOf('"', end + 1);
  return end < 0 ? text.length : end;
}
function escaped(text, place) {
  let slashes = 0;
  while (text[place - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}
function pack(body) {
  const length = Buffer.byteLength(body);
  const data = Buffer.allocUnsafe(PREFIX + length);
  data.writeUInt32BE(length);
  data.write(body, PREFIX);
  return data;
}
function frame(message) {
  return pack(encode(message));
}
var FrameReader = class {
  #parts = [];
  #size = 0;
  /** How many bytes the next message needs at least. */
  #wanted = PREFIX;
  /**
   * Takes received bytes and returns the messages that are whole now. Throws `BrokenWire` for a frame that is too long,
   * not JSON, or without a type.
   */
  read(chunk) {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return [];
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts);
    const messages = [];
    let at = 0;
    for (; ; ) {
      const left = bytes.length - at;
      this.#wanted = PREFIX + (left < PREFIX ? 0 : lengthAt(bytes, at));
      if (left < this.#wanted) break;
      messages.push(parse(bytes.subarray(at + PREFIX, at + this.#wanted)));
      at += this.#wanted;
    }
    this.#parts = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#size = bytes.length - at;
    return messages;
  }
};
function lengthAt(bytes, at) {
  const length = bytes.readUInt32BE(at);
  if (length > LIMIT) throw new BrokenWire(`a frame of ${length} bytes; the limit is ${LIMIT}`);
  return length;
}
function parse(body) {
  if (!isUtf8(body)) throw new BrokenWire("a frame that is not UTF-8");
  let message;
  try {
    message = JSON.parse(body.toString());
  } catch (error2) {
    throw new BrokenWire(`a frame that is not JSON: ${String(error2)}`);
  }
  const typed = typeof message === "object" && message !== null && "t" in message && typeof message.t === "string";
  if (!typed) throw new BrokenWire("a frame without a type");
  return message;
}

// src/worker/log.ts
var MAX_MESSAGE = 16e3;
var MAX_FIELDS = 64e3;
function logOf(work, send) {
  const at = (level) => (message, fields) => {
    const text = String(message).slice(0, MAX_MESSAGE).toWellFormed();
    send({ t: "log", level, message: text, ...fields && { fields: loggable(fields) }, work });
  };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
function loggable(fields) {
  const found = {};
  let size = 0;
  for (const [name, value] of Object.entries(fields)) {
    const text = asJson(value);
    size += text.length;
    Object.defineProperty(found, name.toWellFormed(), { value: JSON.parse(text), enumerable: true });
  }
  return size <= MAX_FIELDS ? found : { dropped: "the fields are too large" };
}
function asJson(value) {
  try {
    return encode(value instanceof Error ? inspect(value) : value);
  } catch {
    return JSON.stringify(printed(value));
  }
}
function printed(value) {
  try {
    return inspect(value).slice(0, MAX_MESSAGE).toWellFormed();
  } catch {
    return "(this value cannot be printed)";
  }
}

// src/worker/outcome.ts
import { inspect as inspect2 } from "node:util";
var MESSAGE = 4e3;
var TRACE = 32e3;
var LONGEST_MS = 1e13;
var Snoozed = class extends Error {
  ms;
  constructor(ms) {
    super(`the job is put off by ${ms} ms`);
    this.ms = ms;
  }
};
function result({ id, method }, value, limit = LIMIT) {
  let body;
  try {
    body = `{"t":"result","id":${id},"value":${encode(value)}}`;
  } catch (cause) {
    return error(id, "failed", `the result of \`${method}\` is not JSON: ${textOf(cause)}`);
  }
  const bytes = Buffer.byteLength(body);
  if (bytes <= limit) return pack(body);
  const text = `the result of \`${method}\` has ${bytes} bytes as a frame; at most ${limit} are possible`;
  return error(id, "too_large", text);
}
function failure({ id, cancelled }, cause) {
  if (cause instanceof Snoozed) return pack(`{"t":"snooze","id":${id},"after_ms":${milliseconds(cause.ms)}}`);
  if (cause instanceof Retry) return error(id, "failed", cause.message, true, { after_ms: cause.afterMs });
  if (cause instanceof Fail) return error(id, cause.code, cause.message);
  if (cause instanceof PagewireError) {
    return error(id, cause.code, cause.message, cause.retryable || cause instanceof Conflict);
  }
  if (cancelled !== void 0 && stops(cause)) return stopped(id);
  const name = cause instanceof Error ? `${cause.name}: ` : "";
  return error(id, "failed", name + textOf(cause), true, { trace: traceOf(cause) });
}
function stopped(id) {
  return pack(`{"t":"stopped","id":${id}}`);
}
function refused(id, code, message, retryable = false) {
  return error(id, code, message, retryable);
}
function notBegun(id, type) {
  if (type === "job") return pack(`{"t":"snooze","id":${id},"after_ms":0}`);
  return error(id, "unavailable", "the child is about to exit", true);
}
function stops(cause) {
  return cause instanceof Cancelled || cause instanceof Error && cause.name === "AbortError";
}
function error(id, code, message, retryable = false, { after_ms, trace } = {}) {
  const short = message.length <= MESSAGE ? message : `${message.slice(0, MESSAGE)}\u2026`;
  const body = {
    t: "error",
    id,
    code: String(code).toWellFormed() || "failed",
    message: short.toWellFormed() || "the error has no message",
    retryable,
    ...after_ms !== void 0 && { after_ms: milliseconds(after_ms) },
    ...trace !== void 0 && { trace: trace.toWellFormed() }
  };
  return pack(JSON.stringify(body));
}
function milliseconds(ms) {
  return Math.max(0, Math.round(Math.min(Number(ms) || 0, LONGEST_MS)));
}
function textOf(cause) {
  try {
    return cause instanceof Error ? String(cause.message) : String(cause);
  } catch {
    return "(no text)";
  }
}
function traceOf(cause) {
  let text;
  try {
    text = inspect2(cause);
  } catch {
    text = "(this error cannot be printed)";
  }
  return text.length <= TRACE ? text : `${text.slice(0, TRACE)}\u2026`;
}

// src/worker/requests.ts
function recipient(level, id, send) {
  if (typeof id !== "string") return { id: void 0, send: async () => ({ reached: 0, held: 0 }) };
  return { id, send: (payload) => send({ [level]: id }, payload) };
}
function jobs(ask) {
  return {
    submit: async (kind, data, options = {}) => {
      const submitted = await ask("job.submit", jobParams(kind, data, options));
      return submitted.job;
    },
    get: (job) => ask("job.get", { job }),
    cancel: async (job) => (await ask("job.cancel", { job })).state
  };
}
function jobParams(kind, data, options) {
  const { user, mode, pool, delayMs, retries, key } = options;
  return {
    kind,
    ...data !== void 0 && { data },
    ...user !== void 0 && { user },
    ...delayMs !== void 0 && { run_in_ms: Math.max(0, Math.round(delayMs)) },
    ...mode !== void 0 && { exec_mode: mode },
    ...pool !== void 0 && { pool },
    ...retries !== void 0 && { retries },
    ...key !== void 0 && { idempotency_key: key }
  };
}
function callParams(method, params, options) {
  const { user, mode, pool, timeoutMs } = options;
  return {
    method,
    ...params !== void 0 && { params },
    ...user !== void 0 && { user },
    ...timeoutMs !== void 0 && { timeout_ms: Math.max(1, Math.round(timeoutMs)) },
    ...mode !== void 0 && { exec_mode: mode },
    ...pool !== void 0 && { pool }
  };
}

// src/worker/tree.ts
import { setTimeout as sleep } from "node:timers/promises";

// src/path.ts
var MAX_DEPTH = 32;
var MAX_KEY_BYTES = 256;
var UNFINISHED = /(?<!\\)(?:\\\\)*\\$/;
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

// src/worker/draft.ts
var TreeDraft = class {
  revision;
  #tree;
  #changes = [];
  /** Objects that the handler has, and may change, with their JSON from before. */
  #given = /* @__PURE__ */ new Map();
  constructor(value, revision) {
    this.#tree = isBranch(value) ? value : {};
    this.revision = revision;
  }
  get(path = "", fallback) {
    const value = this.#find(path);
    if (value === void 0) return fallback;
    if (typeof value === "object" && value !== null && !this.#given.has(path)) {
      this.#given.set(path, { value, before: encode(value) });
    }
    return value;
  }
  has(path) {
    return this.#find(path) !== void 0;
  }
  set(path, value) {
    const keys = split(path);
    const copy = JSON.parse(encode(value));
    this.#keepGiven();
    if (keys.length === 0) {
      if (!isBranch(copy)) throw new TypeError("a whole tree is an object");
      this.#tree = copy;
    } else {
      const last = keys.pop();
      let branch = this.#tree;
      for (const key of keys) {
        const below = child(branch, key);
        branch = isBranch(below) ? below : put(branch, key, {});
      }
      put(branch, last, copy);
    }
    this.#changes.push({ path, value: copy });
  }
  delete(path) {
    if (!this.has(path)) return;
    this.#keepGiven();
    const keys = split(path);
    const last = keys.pop();
    if (last === void 0) this.#tree = {};
    else delete keys.reduce((value, key) => value[key], this.#tree)[last];
    this.#changes.push({ path, delete: true });
  }
  /** Returns the changes in their order. */
  changes() {
    this.#keepGiven();
    return this.#changes;
  }
  /** Records what was changed in place, and forgets the objects: the next change may replace them. */
  #keepGiven() {
    const given = this.#given;
    this.#given = /* @__PURE__ */ new Map();
    for (const [path, { value, before }] of given) {
      if (this.#find(path) !== value) continue;
      const now = encode(value);
      if (now !== before) this.#changes.push({ path, value: JSON.parse(now) });
    }
  }
  #find(path) {
    return split(path).reduce((value, key) => isBranch(value) ? child(value, key) : void 0, this.#tree);
  }
};
function child(branch, key) {
  return Object.hasOwn(branch, key) ? branch[key] : void 0;
}
function put(branch, key, value) {
  Object.defineProperty(branch, key, { value, writable: true, enumerable: true, configurable: true });
  return value;
}
function isBranch(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// src/worker/tree.ts
var TRIES = 32;
var LONGEST_PAUSE_MS = 100;
function trees(ask) {
  const own = (level) => new StateTree(ask, { level });
  return {
    user: own("user"),
    connection: own("connection"),
    session: own("session"),
    page: own("page"),
    of: (level, id) => new StateTree(ask, { level, id: String(id) })
  };
}
var StateTree = class {
  #ask;
  #at;
  constructor(ask, at) {
    this.#ask = ask;
    this.#at = at;
  }
  async get(path = "", fallback) {
    const { value } = await this.read(path);
    return value === void 0 ? fallback : value;
  }
  async read(path = "") {
    const read = await this.#ask("state.get", path ? { ...this.#at, path } : this.#at);
    const { value, revision } = read;
    return { value, revision };
  }
  set(path, value, options) {
    return this.patch([{ path, value: value === void 0 ? null : value }], options);
  }
  delete(path, options) {
    return this.patch([{ path, delete: true }], options);
  }
  async patch(changes, { ifRevision } = {}) {
    const condition = ifRevision === void 0 ? {} : { if_revision: ifRevision };
    const written = await this.#ask("state.patch", { ...this.#at, changes, ...condition });
    return written.revision;
  }
  async edit(change) {
    const { value, revision } = await this.read();
    const draft = new TreeDraft(value, revision);
    await change(draft);
    const changes = draft.changes();
    return changes.length > 0 ? this.patch(changes, { ifRevision: revision }) : revision;
  }
  async update(change) {
    for (let tries = 1; ; tries++) {
      try {
        return await this.edit(change);
      } catch (error2) {
        if (!(error2 instanceof Conflict) || tries === TRIES) throw error2;
      }
      await sleep(Math.random() * Math.min(LONGEST_PAUSE_MS, 2 ** tries));
    }
  }
};

// src/worker/context.ts
var REPORT_EVERY_MS = 100;
var TURN_MS = 10;
var MAX_MESSAGE2 = 1e3;
var WorkContext = class {
  id;
  method;
  job;
  attempt;
  left;
  trace;
  deadline;
  user;
  page;
  session;
  connection;
  log;
  #port;
  #reason;
  /** The handler knows that it has to stop, so its next requests clean up. */
  #delivered = false;
  /** The errors of the requests that the cancel has ended, without those that no code has handled. */
  #interruptions = /* @__PURE__ */ new Set();
  #over = false;
  #abort;
  constructor(port, message) {
    this.#port = port;
    this.id = message["id"];
    this.method = String(message["method"]);
    this.job = message["job"];
    this.attempt = Number(message["attempt"] ?? 1);
    this.left = Number(message["left"] ?? 0);
    this.trace = message["trace"];
    const limit = message["deadline_ms"] ?? message["timeout_ms"];
    this.deadline = limit === void 0 ? Infinity : performance.now() + Number(limit);
    const target = (level) => recipient(level, message[level], (to, payload) => this.send(to, payload));
    this.user = target("user");
    this.page = target("page");
    this.session = target("session");
    this.connection = target("connection");
    this.log = logOf(this.id, (line) => this.#port.send(line));
  }
  get remaining() {
    return Math.max(0, this.deadline - performance.now());
  }
  get cancelled() {
    return this.#reason;
  }
  get signal() {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#reason) this.#abort.abort(new Cancelled(this.#reason));
    }
    this.#delivered = true;
    return this.#abort.signal;
  }
  get state() {
    return trees((method, params) => this.#ask(method, params));
  }
  get jobs() {
    return jobs((method, params) => this.#ask(method, params));
  }
  check() {
    if (!this.#reason) return;
    this.#delivered = true;
    throw new Cancelled(this.#reason);
  }
  progress(progress, message) {
    if (this.#over) return;
    const value = Math.min(1, Math.max(0, Number(progress) || 0));
    const text = message === void 0 ? {} : { message: String(message).slice(0, MAX_MESSAGE2).toWellFormed() };
    this.#port.send({ t: "progress", id: this.id, progress: value, ...text });
  }
  async *track(items, total = sizeOf(items)) {
    let [turn, report, done] = [performance.now(), performance.now(), 0];
    for await (const item of items) {
      if (performance.now() - turn >= TURN_MS) {
        await nextTurn();
        turn = performance.now();
      }
      this.check();
      yield item;
      done += 1;
      if (total && (done === total || performance.now() - report >= REPORT_EVERY_MS)) {
        report = performance.now();
        this.progress(done / total);
      }
    }
  }
  snooze(ms) {
    throw new Snoozed(ms);
  }
  send(to, payload) {
    return this.#ask("push.send", { to, payload: payload === void 0 ? null : payload });
  }
  broadcast(payload) {
    return this.send({ all: true }, payload);
  }
  call(method, params, options = {}) {
    return this.#ask("call", callParams(method, params, options));
  }
  lock(name, options = {}) {
    const ask = (method, params) => this.#ask(method, params);
    const keep = (method, params) => this.#request(method, params, true);
    return acquire({ ask, keep }, name, options);
  }
  /** Asks the handler to stop. Returns whether this is new. */
  cancel(reason) {
    if (this.#reason || this.#over) return false;
    this.#reason = reason;
    this.#abort?.abort(new Cancelled(reason));
    return true;
  }
  /** Returns the error for a request that waits when the work is cancelled. */
  interrupt() {
    const interruption = new Cancelled(this.#reason ?? "cancelled");
    this.#interruptions.add(interruption);
    return interruption;
  }
  /** Handles an error that no code has handled. Returns whether the handler now does not know of its cancel. */
  unhandled(error2) {
    return this.#interruptions.delete(error2) && !this.#knows;
  }
  get #knows() {
    return this.#delivered || this.#interruptions.size > 0;
  }
  /** Ends it: the handler has no effects any more. */
  end() {
    this.#over = true;
  }
  /** Sends a request of the handler. The first one after a cancel is rejected with it. */
  async #ask(method, params) {
    if (!this.#knows && !this.#over) this.check();
    return this.#request(method, params);
  }
  async #request(method, params, isUncancelled = false) {
    if (this.#over) throw new PagewireError("stale", `the work \`${this.method}\` has ended`);
    return this.#port.request(this.id, method, params, isUncancelled);
  }
};
function sizeOf(items) {
  if (Array.isArray(items)) return items.length;
  return items instanceof Set || items instanceof Map ? items.size : 0;
}

// src/worker/child.ts
var OPEN_REQUESTS = 240;
var Child = class {
  #socket;
  #handlers;
  #events;
  #reader = new FrameReader();
  #works = /* @__PURE__ */ new Map();
  #open = /* @__PURE__ */ new Map();
  #waiting = /* @__PURE__ */ new Map();
  /** What requests were rejected with. */
  #refusals = /* @__PURE__ */ new WeakSet();
  #limit = LIMIT;
  #lastId = 0;
  #welcomed = false;
  #ending = false;
  #over = false;
  constructor(socket, handlers, events) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#events = events;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("end", () => this.#lose("the supervisor has closed the socket"));
    socket.on("error", (error2) => this.#lose(error2.message));
    socket.on("close", () => this.#lose("the socket was closed"));
  }
  /** Takes no more work, ends what runs, and then the child. */
  drain() {
    this.#ending = true;
    this.#finishIfIdle();
  }
  /** Returns whether this is what a request was rejected with. */
  isRefusal(reason) {
    return typeof reason === "object" && reason !== null && this.#refusals.has(reason);
  }
  /** Handles a refusal that no code has handled. A cancel that was told to no other request is told to the next ones. */
  unhandled(refusal) {
    for (const context of this.#works.values()) if (context.unhandled(refusal)) this.#interrupt(context);
  }
  send(message) {
    this.#socket.write(frame(message));
  }
  async request(work, method, params, isUncancelled = false) {
    const id = ++this.#lastId;
    const data = requestFrame(id, work, method, params, this.#limit);
    return new Promise((resolve, reject) => {
      const request = { work, isUncancelled, data, resolve, reject };
      if (this.#open.size < OPEN_REQUESTS) this.#post(id, request);
      else this.#waiting.set(id, request);
    });
  }
  #post(id, request) {
    this.#open.set(id, request);
    this.#socket.write(request.data);
  }
  #receive(chunk) {
    if (this.#over) return;
    try {
      for (const message of this.#reader.read(chunk)) this.#take(message);
    } catch (error2) {
      if (!(error2 instanceof BrokenWire)) throw error2;
      this.#lose(`the supervisor has sent ${error2.message}`);
    }
  }
  #take(message) {
    if (!this.#welcomed) return this.#welcome(message);
    switch (message.t) {
      case "call":
      case "job":
        return this.#accept(message);
      case "reply":
        return this.#settle(message);
      case "cancel":
        return this.#cancel(message["id"], message["why"]);
      case "ping":
        return this.send({ t: "pong" });
      case "drain":
        return this.drain();
      default:
        if (typeof message["id"] === "number" && message.t !== "welcome") {
          const text = `this child does not know the message \`${message.t.slice(0, 40)}\``;
          this.#socket.write(refused(message["id"], "unsupported", text));
        }
    }
  }
  #welcome(message) {
    if (message.t !== "welcome" || (message["protocol"] ?? 1) !== 1) {
      throw new BrokenWire(`${message.t} instead of a welcome to version 1 of the child wire`);
    }
    this.#welcomed = true;
    this.#limit = Math.min(Number(message["max_frame"] ?? LIMIT), LIMIT);
  }
  #accept(message) {
    const { id, method } = message;
    if (typeof id !== "number" || typeof method !== "string")
      throw new BrokenWire(`a ${message.t} without id or method`);
    const handler = this.#handlers.get(method);
    if (this.#ending) {
      this.#socket.write(notBegun(id, message.t));
    } else if (!handler) {
      const text = `there is no handler \`${method.slice(0, 200)}\``;
      this.#socket.write(refused(id, "no_executor", text, true));
    } else {
      const context = new WorkContext(this, message);
      this.#works.set(id, context);
      void this.#run(handler, context, message["params"]);
    }
  }
  async #run(handler, context, params) {
    let end;
    try {
      end = result(context, await handler.run(context, params), this.#limit);
    } catch (error2) {
      end = failure(context, error2);
    }
    context.end();
    this.#works.delete(context.id);
    this.#forget(context.id, () => new PagewireError("stale", `the work \`${context.method}\` has ended`));
    if (this.#over) return;
    this.#socket.write(end);
    this.#finishIfIdle();
  }
  #cancel(id, why) {
    const context = this.#works.get(id);
    if (context?.cancel(why)) this.#interrupt(context);
  }
  #interrupt(context) {
    this.#forget(context.id, () => context.interrupt(), (request) => !request.isUncancelled);
  }
  /** Rejects the requests of a piece of work, or some of them. */
  #forget(work, error2, some = () => true) {
    for (const requests of [this.#open, this.#waiting]) {
      for (const [id, request] of requests) {
        if (request.work !== work || !some(request)) continue;
        requests.delete(id);
        this.#refuse(request, error2());
      }
    }
    this.#postWaiting();
  }
  #settle(reply) {
    const id = reply["id"];
    const request = this.#open.get(id);
    if (!request) return;
    this.#open.delete(id);
    const error2 = reply["error"];
    if (error2 === void 0) request.resolve(reply["value"] ?? null);
    else this.#refuse(request, errorOf(error2));
    this.#postWaiting();
  }
  #refuse(request, error2) {
    this.#refusals.add(error2);
    request.reject(error2);
  }
  #postWaiting() {
    for (const [id, request] of this.#waiting) {
      if (this.#open.size >= OPEN_REQUESTS) return;
      this.#waiting.delete(id);
      this.#post(id, request);
    }
  }
  #finishIfIdle() {
    if (!this.#ending || this.#works.size > 0 || this.#over) return;
    this.#over = true;
    this.#socket.end(() => {
      this.#socket.destroy();
      this.#events.finished();
    });
  }
  #lose(reason) {
    if (this.#over) return;
    this.#over = true;
    this.#events.lost(this.#welcomed ? reason : `${reason} before its welcome`);
  }
};
function requestFrame(id, work, method, params, limit = LIMIT) {
  let text;
  try {
    text = encode(params);
  } catch (error2) {
    const reason = error2 instanceof Error ? error2.message : String(error2);
    throw new PagewireError("malformed", `the parameters of ${method} are not JSON: ${reason}`);
  }
  const body = `{"t":"request","id":${id},"work":${work},"method":${JSON.stringify(method)},"params":${text}}`;
  const bytes = Buffer.byteLength(body);
  if (bytes <= limit) return pack(body);
  throw new PagewireError("too_large", `the request ${method} has ${bytes} bytes; at most ${limit} are possible`);
}
function errorOf(error2) {
  const { code = "internal", message = code, retryable = false } = error2;
  return code === "conflict" ? new Conflict(message, retryable) : new PagewireError(code, message, retryable);
}

// src/worker/schema.ts
var CHECKED = new Set(
  "type enum const anyOf properties required additionalProperties items minItems maxItems minLength maxLength pattern minimum maximum".split(" ")
);
var ANNOTATIONS = new Set("title description default examples deprecated format $schema $id $comment".split(" "));
function verify(schema, where = "schema") {
  if (typeof schema !== "object" || schema === null) throw new TypeError(`${where} is an object`);
  for (const keyword of Object.keys(schema)) {
    if (CHECKED.has(keyword) || ANNOTATIONS.has(keyword)) continue;
    throw new TypeError(`the keyword \`${keyword}\` of ${where} is not supported: check it in the handler`);
  }
  if (schema.pattern !== void 0) new RegExp(schema.pattern, "u");
  const { additionalProperties: more, items, properties = {}, anyOf = [] } = schema;
  if (typeof more === "object") verify(more, `${where}.additionalProperties`);
  if (items) verify(items, `${where}.items`);
  for (const [name, below] of Object.entries(properties)) verify(below, `${where}.properties.${name}`);
  anyOf.forEach((below, index) => verify(below, `${where}.anyOf[${index}]`));
}
function accept(schema, params) {
  const value = params === null && schema.type === "object" ? {} : params;
  const found = problem(schema, value, "");
  if (found !== void 0) throw new Fail("malformed", found);
  return value;
}
function problem(schema, value, where) {
  const fits = (schema.type === void 0 || [schema.type].flat().some((type) => isOf(type, value))) && (schema.enum === void 0 || schema.enum.some((one) => same(one, value))) && (!("const" in schema) || same(schema.const, value)) && (schema.anyOf === void 0 || schema.anyOf.some((one) => problem(one, value, where) === void 0));
  if (!fits) return `${named(where)}: expected ${expected(schema)}, got ${shown(value)}`;
  if (typeof value === "string") return ofText(schema, value, where);
  if (typeof value === "number") return ofNumber(schema, value, where);
  if (Array.isArray(value)) return ofArray(schema, value, where);
  return isObject(value) ? ofObject(schema, value, where) : void 0;
}
function ofText(schema, value, where) {
  const { minLength = 0, maxLength = Infinity, pattern } = schema;
  const length = value.length < minLength || value.length <= maxLength ? value.length : [...value].length;
  if (length < minLength) return `${named(where)} has at least ${minLength} characters`;
  if (length > maxLength) return `${named(where)} has at most ${maxLength} characters`;
  const matches = pattern === void 0 || new RegExp(pattern, "u").test(value);
  return matches ? void 0 : `${named(where)} does not match ${pattern}`;
}
function ofNumber(schema, value, where) {
  const { minimum = -Infinity, maximum = Infinity } = schema;
  if (value < minimum) return `${named(where)} is at least ${minimum}, not ${value}`;
  return value > maximum ? `${named(where)} is at most ${maximum}, not ${value}` : void 0;
}
function ofArray(schema, value, where) {
  const { minItems = 0, maxItems = Infinity, items } = schema;
  if (value.length < minItems) return `${named(where)} has at least ${minItems} items`;
  if (value.length > maxItems) return `${named(where)} has at most ${maxItems} items`;
  return items && first(value.entries(), ([index, item]) => problem(items, item, `${where}[${index}]`));
}
function ofObject(schema, value, where) {
  const { properties = {}, required = [], additionalProperties: more = true } = schema;
  const below = (name) => where ? `${where}.${name}` : name;
  const missing = required.find((name) => !Object.hasOwn(value, name));
  if (missing !== void 0) {
    const known = Object.hasOwn(properties, missing) ? properties[missing] : void 0;
    return `${named(below(missing))} is missing${known ? `: expected ${expected(known)}` : ""}`;
  }
  return first(Object.entries(value), ([name, item]) => {
    const known = Object.hasOwn(properties, name) ? properties[name] : more;
    if (known === false) return `there is no parameter ${named(below(name))}`;
    return typeof known === "object" ? problem(known, item, below(name)) : void 0;
  });
}
function first(items, find) {
  for (const item of items) {
    const found = find(item);
    if (found !== void 0) return found;
  }
  return void 0;
}
function isOf(type, value) {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
function same(one, other) {
  return one === other || isJson(one) && isJson(other) && JSON.stringify(one) === JSON.stringify(other);
}
function isJson(value) {
  return typeof value === "object" && value !== null;
}
function expected(schema) {
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.anyOf) return schema.anyOf.map(expected).join(" or ");
  const types = schema.type === void 0 ? [] : [schema.type].flat();
  return types.map((type) => type === "null" ? type : `${/^[aio]/.test(type) ? "an" : "a"} ${type}`).join(" or ") || "a value";
}
function named(where) {
  return `\`${where || "params"}\``;
}
function shown(value) {
  if (Array.isArray(value)) return "an array";
  if (isObject(value)) return "an object";
  const text = JSON.stringify(value) ?? "nothing";
  const short = text.length > 60 ? `${text.slice(0, 60)}\u2026` : text;
  return typeof value === "string" ? `the text ${short}` : short;
}

// src/worker/handler.ts
var MAX_NAME = 200;
var MAX_RETRIES = 100;
var OPTIONS = /* @__PURE__ */ new Set(["mode", "retries", "timeoutMs", "serial", "schema", "returns", "doc"]);
var Handler = class {
  name;
  #options;
  #run;
  /** Throws a `TypeError` or `RangeError` that names the handler if its name or an option is not possible. */
  constructor(name, options, run) {
    const bytes = typeof name === "string" ? Buffer.byteLength(name) : 0;
    if (bytes < 1 || bytes > MAX_NAME) throw new RangeError(`a handler's name has 1 to ${MAX_NAME} bytes`);
    if (typeof run !== "function") throw new TypeError(`the handler \`${name}\` is no function`);
    check(name, options);
    this.name = name;
    this.#options = options;
    this.#run = run;
  }
  /** Runs it. Throws `Fail` with the code `malformed` if the schema does not accept the parameters. */
  async run(ctx, params) {
    const { schema } = this.#options;
    return this.#run(ctx, schema ? accept(schema, params) : params);
  }
  /** Returns the method of `ready`. */
  describe() {
    const { mode, serial, timeoutMs, retries, schema, returns, doc } = this.#options;
    return {
      name: this.name,
      ...mode && { mode },
      ...serial && { serial },
      ...timeoutMs !== void 0 && { timeout_ms: Math.max(1, Math.round(timeoutMs)) },
      ...retries !== void 0 && { retries },
      ...schema && { schema },
      ...returns && { returns },
      ...doc && { doc }
    };
  }
};
function check(name, options) {
  const { mode, serial, timeoutMs, retries, schema, returns } = options;
  const unknown = Object.keys(options).find((option) => !OPTIONS.has(option));
  if (unknown) throw new TypeError(`handler \`${name}\`: there is no option \`${unknown}\``);
  const wrong = (what) => new RangeError(`handler \`${name}\`: ${what}`);
  if (mode !== void 0 && mode !== "any" && mode !== "assigned") throw wrong("mode is any or assigned");
  if (serial !== void 0 && serial !== "user" && serial !== "page") throw wrong("serial is user or page");
  if (timeoutMs !== void 0 && !(timeoutMs > 0 && Number.isFinite(timeoutMs))) throw wrong("timeoutMs is above 0");
  const whole = retries === void 0 || Number.isInteger(retries) && retries >= 0 && retries <= MAX_RETRIES;
  if (!whole) throw wrong(`retries is a number from 0 to ${MAX_RETRIES}`);
  try {
    if (schema) verify(schema);
  } catch (error2) {
    throw new TypeError(`handler \`${name}\`: ${error2 instanceof Error ? error2.message : String(error2)}`);
  }
  if (returns !== void 0 && (typeof returns !== "object" || returns === null)) throw wrong("returns is a schema");
}

// src/worker/ready.ts
var VERSION = "0.1.0";
function ready(handlers, token, slots) {
  const methods = [...handlers.values()].map((handler) => handler.describe());
  if (JSON.stringify(methods).length > LIMIT / 2) {
    for (const method of methods) for (const member of ["schema", "returns", "doc"]) delete method[member];
  }
  const own = { t: "ready", protocol: [1], token, pid: process.pid, sdk: `node/${VERSION}` };
  return { ...own, ...slots !== void 0 && { slots }, methods };
}

// src/worker/app.ts
var LEAVE_MS = 2e3;
function worker(options = {}) {
  return new Application(options);
}
var Application = class {
  #handlers = /* @__PURE__ */ new Map();
  #slots;
  #running;
  constructor({ slots }) {
    if (slots !== void 0 && !(Number.isInteger(slots) && slots > 0))
      throw new RangeError("slots is a number from 1");
    this.#slots = slots;
  }
  handle(name, ...rest) {
    const [options, run] = rest.length === 1 ? [{}, rest[0]] : rest;
    const handler = new Handler(name, options, run);
    if (this.#handlers.has(name)) throw new Error(`there are two handlers with the name \`${name}\``);
    this.#handlers.set(name, handler);
    return this;
  }
  run() {
    return this.#running ??= this.#start();
  }
  #start() {
    const { PAGEWIRE_SOCKET: path, PAGEWIRE_TOKEN: token = "" } = process.env;
    delete process.env["PAGEWIRE_SOCKET"];
    delete process.env["PAGEWIRE_TOKEN"];
    if (path === void 0) exit(explanation(process.argv.slice(1), process.execArgv));
    return serve(path, ready(this.#handlers, token, this.#slots), this.#handlers);
  }
};
function serve(path, introduction, handlers) {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const finished = () => {
      setTimeout(() => process.exit(), LEAVE_MS).unref();
      resolve();
    };
    const child2 = new Child(socket, handlers, { finished, lost: exit });
    for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child2.drain());
    process.on("unhandledRejection", (reason) => onUnhandled(child2, reason));
    socket.write(frame(introduction));
  });
}
function onUnhandled(child2, reason) {
  if (child2.isRefusal(reason)) {
    process.stderr.write(`pagewire: a request that is not waited for: ${String(reason)}
`);
    child2.unhandled(reason);
  } else if (process.listenerCount("unhandledRejection") === 1) throw reason;
}
function exit(reason) {
  process.stderr.write(`pagewire: ${reason}
`);
  process.exit(1);
}
function explanation([script = "app.js", ...rest], options) {
  const command = ["node", ...options, relative(process.cwd(), script) || script, ...rest];
  return `this process was not started by Pagewire. Start it in one of these ways:
    pagewire dev -- ${command.join(" ")}
    a pool in pagewire.toml:    [[pool]]
                                name = "default"
                                command = ${JSON.stringify(command)}`;
}
export {
  Cancelled,
  Conflict,
  Fail,
  PagewireError,
  Retry,
  worker
};
