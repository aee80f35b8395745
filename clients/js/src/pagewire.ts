import { Acks } from "./acks.js";
import type { ApiMap, Args, UntypedApi, UntypedName } from "./api.js";
import { ask } from "./ask.js";
import { call } from "./call.js";
import { Claim } from "./claim.js";
import { verdict } from "./close.js";
import { Deferred } from "./deferred.js";
import { slot, socketUrl, storage } from "./document.js";
import { Emitter } from "./emitter.js";
import { PagewireError } from "./error.js";
import { Identity, type Hello } from "./identity.js";
import { Incoming } from "./incoming.js";
import { Jobs } from "./jobs.js";
import { watchDocument } from "./lifecycle.js";
import { Link } from "./link.js";
import { delayOf, Move, MOVE_MS, targets } from "./move.js";
import type { DataFrame } from "./replica.js";
import { serverError, Requests } from "./requests.js";
import { PageObject } from "./resident.js";
import { Retry } from "./retry.js";
import { Route } from "./route.js";
import { TokenSource } from "./token.js";
import { Topics } from "./topics.js";
import { Trees } from "./trees.js";
import type { Edit, Level, Reading, View, WriteOptions } from "./state.js";
import type { SubscribeOptions, Subscription } from "./subscription.js";
import type {
  Backoff,
  CallOptions,
  ChosenLane,
  Delivery,
  Job,
  JobOptions,
  Message,
  PagewireEvents,
  PagewireOptions,
  Registered,
  ResidentNews,
  ServerFrame,
  State,
  StateChange,
  Target,
  WebSocketConstructor,
} from "./types.js";

/** The close code of a socket that ended without one. */
const LOST = 1006;

/**
 * One page: it stays the same over lost sockets, restarts of its node and reloads of its document.
 *
 * ```js
 * const page = new Pagewire();
 * page.on("message", ({ payload }) => console.log(payload));
 * await page.connect();
 * const sum = await page.call("sum", [1, 2, 3]);
 * ```
 * With a map of the handlers (`new Pagewire<Api>()`) calls and jobs are checked against it.
 */
export class Pagewire<Api extends ApiMap<Api> = UntypedApi> extends Emitter<PagewireEvents> {
  /** The object of a resident page: `page.object.call("add", { by: 2 })`. */
  readonly object: PageObject<Api>;
  readonly #route: Route;
  readonly #retry: Retry;
  readonly #WebSocket: WebSocketConstructor;
  readonly #identity: Identity;
  readonly #tokens: TokenSource;
  readonly #requests: Requests;
  readonly #jobs: Jobs;
  readonly #trees: Trees;
  readonly #topics: Topics;
  readonly #claim: Claim;
  readonly #incoming = new Incoming();
  readonly #acks = new Acks(this.#incoming, () => this.#acknowledge());
  #state: State = "closed";
  #registered: Registered | undefined;
  #opening: Deferred<Registered> | undefined;
  #link: Link | undefined;
  #move: Move | undefined;
  /** Incremented so that a waiting attempt notices that it is obsolete. */
  #turn = 0;
  /** The document is in the back/forward cache. */
  #away = false;
  #unwatch: () => void = () => undefined;

  constructor(options: PagewireOptions = {}) {
    super();
    this.#route = new Route(socketUrl(options.url));
    const backoff: Backoff = { base_ms: 500, cap_ms: 20_000, ...options.backoff };
    this.#retry = new Retry(backoff);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new TypeError("there is no global WebSocket here: pass one as an option");
    const { local_storage: local = storage("localStorage"), session_storage: session = storage("sessionStorage") } =
      options;
    this.#identity = new Identity(local, session, options.slot ?? slot(), options.ids);
    this.#claim = new Claim(this.#identity);
    this.#tokens = new TokenSource(options.token);
    this.#requests = new Requests(options.max_pending ?? 1_000);
    this.#jobs = new Jobs(this.#requests, this.#identity);
    this.#trees = new Trees(this.#requests, () => this.#registered?.page_id);
    this.#topics = new Topics(this.#requests, backoff);
    this.object = new PageObject(options.resident, (...args) => call(this.#requests, ...args));
    this.#incoming.restart(this.#identity.page?.seq ?? 0);
  }

  /** The connection state. */
  get state(): State {
    return this.#state;
  }

  /** The identity and the node of this page; `undefined` before the first registration. */
  get registered(): Registered | undefined {
    return this.#registered;
  }

  /**
   * Opens the page, or resumes it after a reload. Resolves with the first registration and rejects when the server
   * refuses; in between it keeps trying. After a refusal (for example `replaced`) it may be called again and opens a
   * new page.
   */
  connect(): Promise<Registered> {
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
      wake: () => this.#wake(),
    });
    void this.#attempt();
    return this.#opening.promise;
  }

  /** Closes the page for good: a later `connect()` opens another one. */
  close(): void {
    this.#identity.forgetPage();
    this.#finish({}, new PagewireError("closed", "the page was closed"));
  }

  /**
   * Calls a method and resolves with its result. Rejects with the handler's error, with `timeout`, with `cancelled`
   * when its signal was aborted, or with `uncertain` when the page was reset before the reply arrived.
   */
  call<N extends keyof Api & string>(method: N, ...rest: Args<Api[N], CallOptions>): Promise<Api[N]["result"]>;
  call<Result = unknown>(method: UntypedName<Api>, params?: unknown, options?: CallOptions): Promise<Result>;
  call(method: string, params?: unknown, options?: CallOptions): Promise<unknown> {
    return call(this.#requests, method, params, options);
  }

  /**
   * Submits a durable job. Its end reaches this page over lost sockets, migrations and resets; after a reload of the
   * document it arrives as the event `job`.
   */
  job<N extends keyof Api & string>(kind: N, ...rest: Args<Api[N], JobOptions>): Job<Api[N]["result"]>;
  job<Result = unknown>(kind: UntypedName<Api>, data?: unknown, options?: JobOptions): Job<Result>;
  job(kind: string, data?: unknown, options: JobOptions = {}): Job {
    return this.#jobs.submit(kind, data, options);
  }

  /** Sends a message to a page, or to all pages of a session, connection, user or topic. */
  send(to: Target, payload: unknown): Promise<Delivery> {
    return ask(this.#requests, { type: "send", to, payload }) as Promise<Delivery>;
  }

  /** Sends a message to all pages of this session. */
  broadcast(payload: unknown): Promise<Delivery> {
    return ask(this.#requests, { type: "broadcast_session", payload }) as Promise<Delivery>;
  }

  /**
   * Chooses the lane of this user (or of this browser, without a user) in a pool, or the base lane, where the rollout allows it;
   * `null` takes the choice back. Resolves with the lane that follows.
   */
  rollout(pool: string, lane: string | null): Promise<ChosenLane> {
    return ask(this.#requests, { type: "rollout", pool, lane }) as Promise<ChosenLane>;
  }

  /** Subscribes to a topic until the subscription is closed. All subscriptions of one topic share one at the server. */
  subscribe(topic: string, options: SubscribeOptions = {}): Subscription {
    return this.#topics.subscribe(topic, options);
  }

  /** Watches a path of a tree and keeps its value current. Throws if the path is invalid. */
  watch<Value = unknown>(level: Level, path = ""): View<Value> {
    return this.#trees.watch(level, path);
  }

  /** Reads the value at a path of a tree once. */
  get<Value = unknown>(level: Level, path = ""): Promise<Reading<Value>> {
    return this.#trees.get(level, path);
  }

  /** Writes a value into a tree and creates missing branches above it. Resolves with the tree's revision. */
  set(level: Level, path: string, value: unknown, options?: WriteOptions): Promise<number> {
    return this.#trees.set(level, path, value, options);
  }

  /** Applies all of these edits of a tree or none. Resolves with the tree's revision. */
  patch(level: Level, edits: readonly Edit[], options?: WriteOptions): Promise<number> {
    return this.#trees.patch(level, edits, options);
  }

  /** Logs in, or renews a token before it expires. Later sockets use it too. */
  async auth(token: string): Promise<void> {
    await ask(this.#requests, { type: "auth", token });
    this.#tokens.replace(token);
  }

  async #attempt(): Promise<void> {
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

  #hello(): Hello {
    const hello = this.#identity.hello(this.#incoming.last, this.#trees.places(), this.#jobs.pending);
    const token = this.#tokens.current;
    const { resident } = this.object;
    const known = { ...hello, ...(token && { token }), ...(resident && { resident }), features: ["move"] };
    return { ...known, ...(this.#route.stay && { stay: true }) };
  }

  #dial(): void {
    const hello = this.#hello();
    let reason = "";
    for (const url of this.#route.urls) {
      try {
        this.#link = this.#connect(url, () => hello, hello);
        return;
      } catch (error) {
        // forbidden from this document (e.g. a ws: address in an https: page): trying again cannot help
        reason = String(error);
      }
    }
    this.#finish({ reason }, new PagewireError("closed", reason));
  }

  #connect(url: string, hello: () => Hello, said: Hello, patienceMs?: number): Link {
    const greet = (): Hello => (said = hello());
    const events = {
      registered: (frame: Registered) => this.#open(frame, said, link, url),
      frame: (frame: ServerFrame): void => {
        if (link === this.#link) this.#take(frame, link);
      },
      closed: (code: number, reason: string) => this.#lost(code, reason, said, link),
    };
    const link: Link = new Link(this.#WebSocket, url, greet, events, patienceMs);
    return link;
  }

  /** Handles `move`: a second socket takes the page over. */
  #leaveFor(frame: ServerFrame, link: Link): void {
    if (this.#move) return;
    const connect = (url: string): Link => this.#connect(url, () => this.#handOver(), {}, MOVE_MS);
    const failed = (left: boolean): void => this.#remain(link, left);
    const urls = targets(frame, this.#route.own, link.registered);
    this.#move = new Move(link, urls, delayOf(frame), { connect, failed });
  }

  /** Returns `hello` for the second socket. From here on the page sends nothing until one of the two has it. */
  #handOver(): Hello {
    const hello = this.#hello();
    this.#hush();
    return { ...hello, stay: true };
  }

  /** Handles a move that found no other node. */
  #remain(link: Link, left: boolean): void {
    this.#move = undefined;
    if (!link.registered) this.#route.stay = true;
    // the close code of the first socket only says that the page was on its way
    if (left) this.#lost(LOST, "", {}, link);
    else if (!link.registered) link.write({ type: "hello", ...this.#hello() });
    else {
      this.#requests.continue((text) => link.write(text));
      this.#trees.open("recovered", []);
      this.#topics.open("recovered");
    }
  }

  #open(frame: Registered, hello: Hello, link: Link, url: string): void {
    const again = this.#registered !== undefined;
    this.#move?.end(link === this.#link ? undefined : link);
    this.#move = undefined;
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
    if (frame.recovered === "reset" || (frame.recovered === "new" && again)) {
      this.emit("reset", { reason: "the server could not continue where this page was" });
    }
    this.#opening?.resolve(frame);
  }

  #take(frame: ServerFrame, link: Link): void {
    if (frame.seq !== undefined) {
      const news = this.#incoming.accept(frame.seq);
      if (news === "duplicate") return;
      if (news === "gap") return link.drop(`frame ${this.#incoming.last + 1} is missing`);
      this.#acks.arrived();
    }
    switch (frame.type) {
      case "message":
        this.emit("message", frame as unknown as Message);
        return this.#topics.take(frame as unknown as Message);
      case "data":
        return this.#trees.take(frame as DataFrame);
      case "accepted":
      case "progress":
      case "result":
        return this.#answer(frame);
      case "error":
        if (frame["id"] !== undefined) this.#answer(frame);
        else this.emit("error", serverError(frame));
        return;
      case "reset":
        return this.emit("reset", { reason: String(frame["reason"]) });
      case "identity":
        return this.#identify(String(frame["user"]));
      case "resident":
        return this.emit("resident", frame as unknown as ResidentNews);
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

  #answer(frame: ServerFrame): void {
    const news = this.#jobs.take(frame);
    if (news) this.emit("job", news);
  }

  #identify(user: string): void {
    if (this.#registered) this.#registered = { ...this.#registered, user };
    this.emit("identity", { user });
  }

  /** Handles a new number of the node; the page is the same. */
  #readdress(page_id: string, token: string): void {
    if (!this.#registered) return;
    this.#registered = { ...this.#registered, page_id, token, node: page_id.slice(page_id.indexOf("|") + 1) };
    this.#identity.learn(this.#registered, this.#incoming.last);
    this.#claim.hold(page_id);
    this.emit("address", { page_id });
  }

  #lost(code: number, text: string, hello: Hello, link: Link): void {
    if (this.#move?.ended(link)) return;
    if (!link.registered && this.#move) this.#route.stay = true;
    this.#route.lost(link.registered, this.#move?.named);
    const { reconnect, renewToken, forgetPage, refusesIds, advisedMs, reason, ending } = verdict(code, text);
    this.#detach();
    if (forgetPage) this.#identity.forgetPage();
    // another user logged in, or the server lost its keys: the stored identity is invalid, but a new page is possible
    const anew = refusesIds && !link.registered && hello.resume !== undefined && !(renewToken && hello.token);
    if (anew) this.#identity.forgetRefused();
    const back = anew || (renewToken ? this.#tokens.renew(reconnect) : reconnect);
    const change = { code, ...(reason && { reason }) };
    if (back) this.#wait(advisedMs, change);
    else this.#finish(change, new PagewireError(ending, reason || `the server closed with ${code}`));
  }

  #wait(advisedMs: number, change: Partial<StateChange>): void {
    const delay = this.#retry.schedule(advisedMs, () => void this.#attempt());
    this.#change("waiting", { ...change, retry_at: Date.now() + delay });
  }

  /** Handles a visible document or a network that is back: skips the back-off, unless the server asked for it. */
  #wake(): void {
    if (this.#link) this.#link.doubt();
    else if (this.#state === "waiting" && !this.#retry.advised && !this.#away) void this.#attempt();
  }

  /** Handles an unloaded document: the next document of this tab continues from here, or this one if it returns. */
  #leave(): void {
    this.#away = true;
    this.#acks.now();
    this.#turn += 1;
    this.#link?.leave();
    this.#detach();
    this.#claim.release();
    this.#change("waiting", { reason: "the document is away" });
  }

  #finish(change: Partial<StateChange>, error: PagewireError): void {
    this.#turn += 1;
    this.#unwatch();
    this.#link?.leave();
    this.#detach();
    this.#claim.release();
    this.#requests.close();
    this.#topics.close(error);
    this.#incoming.restart(this.#identity.page ? this.#incoming.last : 0);
    const opening = this.#opening;
    this.#opening = undefined;
    this.#change("closed", change);
    opening?.reject(error);
  }

  #detach(): void {
    this.#retry.cancel();
    this.#acks.stop();
    this.#move?.end();
    this.#move = undefined;
    this.#link = undefined;
    this.#claim.leave();
    this.#hush();
  }

  #hush(): void {
    this.#requests.pause();
    this.#trees.pause();
    this.#topics.pause();
  }

  #acknowledge(): boolean {
    // what arrives on its old socket while it moves may be sent again at the new node, which still needs it then
    if (this.#move?.asking) return false;
    const seq = this.#incoming.ack();
    this.#identity.seen(seq);
    this.#link?.write({ type: "ack", seq });
    return true;
  }

  #change(state: State, change: Partial<StateChange>): void {
    const previous = this.#state;
    this.#state = state;
    if (state !== previous) this.emit("state", { ...change, state, previous });
  }
}
