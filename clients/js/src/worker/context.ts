// The context of a piece of work, which a handler receives as `ctx`. Knows no socket (`child`).

import { setImmediate as nextTurn } from "node:timers/promises";
import { PagewireError } from "../error.js";
import { Cancelled, type CancelReason } from "./errors.js";
import { acquire } from "./lock.js";
import { logOf } from "./log.js";
import { Snoozed } from "./outcome.js";
import { callParams, jobs, recipient } from "./requests.js";
import { trees } from "./tree.js";
import type {
  CallOptions,
  Context,
  Jobs,
  Lock,
  LockOptions,
  Log,
  PushTarget,
  Reach,
  Recipient,
  State,
} from "./types.js";
import type { Message } from "./wire.js";

/** The least ms between two reports of `track`. */
const REPORT_EVERY_MS = 100;
/** The longest time in ms that `track` keeps the process from reading what has arrived. */
const TURN_MS = 10;
const MAX_MESSAGE = 1_000;

/** What a context needs of the child. */
export interface Port {
  /** Sends a message. */
  send(message: Message): void;
  /** Sends a request of a piece of work and resolves with its value. A cancel rejects it unless `isUncancelled`. */
  request(work: number, method: string, params: object, isUncancelled?: boolean): Promise<unknown>;
}

export class WorkContext implements Context {
  readonly id: number;
  readonly method: string;
  readonly job: string | undefined;
  readonly attempt: number;
  readonly left: number;
  readonly trace: string | undefined;
  readonly deadline: number;
  readonly user: Recipient;
  readonly page: Recipient;
  readonly session: Recipient;
  readonly connection: Recipient;
  readonly log: Log;
  readonly #port: Port;
  #reason: CancelReason | undefined;
  /** The handler knows that it has to stop, so its next requests clean up. */
  #delivered = false;
  /** The errors of the requests that the cancel has ended, without those that no code has handled. */
  readonly #interruptions = new Set<object>();
  #over = false;
  #abort: AbortController | undefined;

  constructor(port: Port, message: Message) {
    this.#port = port;
    this.id = message["id"] as number;
    this.method = String(message["method"]);
    this.job = message["job"] as string | undefined;
    this.attempt = Number(message["attempt"] ?? 1);
    this.left = Number(message["left"] ?? 0);
    this.trace = message["trace"] as string | undefined;
    const limit = message["deadline_ms"] ?? message["timeout_ms"];
    this.deadline = limit === undefined ? Infinity : performance.now() + Number(limit);
    const target = (level: string): Recipient =>
      recipient(level, message[level], (to, payload) => this.send(to, payload));
    this.user = target("user");
    this.page = target("page");
    this.session = target("session");
    this.connection = target("connection");
    this.log = logOf(this.id, (line) => this.#port.send(line));
  }

  get remaining(): number {
    return Math.max(0, this.deadline - performance.now());
  }

  get cancelled(): CancelReason | undefined {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#reason) this.#abort.abort(new Cancelled(this.#reason));
    }
    this.#delivered = true;
    return this.#abort.signal;
  }

  get state(): State {
    return trees((method, params) => this.#ask(method, params));
  }

  get jobs(): Jobs {
    return jobs((method, params) => this.#ask(method, params));
  }

  check(): void {
    if (!this.#reason) return;
    this.#delivered = true;
    throw new Cancelled(this.#reason);
  }

  progress(progress: number, message?: string): void {
    if (this.#over) return;
    const value = Math.min(1, Math.max(0, Number(progress) || 0));
    const text = message === undefined ? {} : { message: String(message).slice(0, MAX_MESSAGE).toWellFormed() };
    this.#port.send({ t: "progress", id: this.id, progress: value, ...text });
  }

  async *track<Item>(items: Iterable<Item> | AsyncIterable<Item>, total = sizeOf(items)): AsyncGenerator<Item> {
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

  snooze(ms: number): never {
    throw new Snoozed(ms);
  }

  send(to: PushTarget, payload: unknown): Promise<Reach> {
    return this.#ask("push.send", { to, payload: payload === undefined ? null : payload }) as Promise<Reach>;
  }

  broadcast(payload: unknown): Promise<Reach> {
    return this.send({ all: true }, payload);
  }

  call<Result>(method: string, params?: unknown, options: CallOptions = {}): Promise<Result> {
    return this.#ask("call", callParams(method, params, options)) as Promise<Result>;
  }

  lock(name: string, options: LockOptions = {}): Promise<Lock> {
    const ask = (method: string, params: object): Promise<unknown> => this.#ask(method, params);
    const keep = (method: string, params: object): Promise<unknown> => this.#request(method, params, true);
    return acquire({ ask, keep }, name, options);
  }

  /** Asks the handler to stop. Returns whether this is new. */
  cancel(reason: CancelReason): boolean {
    if (this.#reason || this.#over) return false;
    this.#reason = reason;
    this.#abort?.abort(new Cancelled(reason));
    return true;
  }

  /** Returns the error for a request that waits when the work is cancelled. */
  interrupt(): Cancelled {
    const interruption = new Cancelled(this.#reason ?? "cancelled");
    this.#interruptions.add(interruption);
    return interruption;
  }

  /** Handles an error that no code has handled. Returns whether the handler now does not know of its cancel. */
  unhandled(error: object): boolean {
    return this.#interruptions.delete(error) && !this.#knows;
  }

  get #knows(): boolean {
    return this.#delivered || this.#interruptions.size > 0;
  }

  /** Ends it: the handler has no effects any more. */
  end(): void {
    this.#over = true;
  }

  /** Sends a request of the handler. The first one after a cancel is rejected with it. */
  async #ask(method: string, params: object): Promise<unknown> {
    if (!this.#knows && !this.#over) this.check();
    return this.#request(method, params);
  }

  async #request(method: string, params: object, isUncancelled = false): Promise<unknown> {
    if (this.#over) throw new PagewireError("stale", `the work \`${this.method}\` has ended`);
    return this.#port.request(this.id, method, params, isUncancelled);
  }
}

function sizeOf(items: unknown): number {
  if (Array.isArray(items)) return items.length;
  return items instanceof Set || items instanceof Map ? items.size : 0;
}
