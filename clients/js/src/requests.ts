import { PagewireError } from "./error.js";
import { Outgoing } from "./outgoing.js";
import { Pace } from "./pace.js";
import type { Registered, ServerFrame } from "./types.js";

/** Who waits for what becomes of a request. */
export interface Waiter {
  /** Takes a frame with the request's id; true when it was the last. */
  take(frame: ServerFrame): boolean;
  /** No frame will come any more. */
  fail(error: PagewireError): void;
  /** Only of what outlives a reset: it came, and the server will say what it knows of the request. */
  reset?(): void;
}

interface Pending {
  waiter: Waiter;
  /** It went onto some socket: it may have happened. */
  sent: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

type Limits = Registered["limits"];

/** Requests from the asking to their last frame, over as many sockets as it takes. */
export class Requests {
  #pending = new Map<string, Pending>();
  #outgoing = new Outgoing();
  #pace = new Pace();
  #limits: Limits = { max_frame: Infinity, frames_per_second: Infinity };
  #write: ((text: string) => void) | undefined;
  #pump: ReturnType<typeof setTimeout> | undefined;
  #maxPending: number;
  #count = 0;
  /** A reloaded document resumes its page and must not take an answer to its predecessor's request for its own. */
  readonly #prefix = Math.random().toString(36).slice(2, 8);

  constructor(maxPending: number) {
    this.#maxPending = maxPending;
  }

  /** What has been sent, outlives a reset and is not over: the server is asked for it when the page comes back. */
  get lasting(): string[] {
    return [...this.#pending].filter(([, { sent, waiter }]) => sent && waiter.reset).map(([id]) => id);
  }

  /** Sends a frame as soon as there is a socket for it. Returns the id that its answers will have. */
  begin(frame: object, waiter: Waiter, timeoutMs?: number): string {
    if (this.#pending.size >= this.#maxPending) {
      throw new PagewireError("overflow", `${this.#maxPending} requests are waiting already`, true);
    }
    return this.add(frame, waiter, timeoutMs);
  }

  /** The same for what the page itself needs, however much waits. */
  add(frame: object, waiter: Waiter, timeoutMs?: number): string {
    const id = `${this.#prefix}.${++this.#count}`;
    const pending: Pending = { waiter, sent: false };
    this.#outgoing.push({ id, text: JSON.stringify({ ...frame, id }) });
    if (timeoutMs !== undefined) {
      const error = new PagewireError("timeout", `no answer within ${timeoutMs} ms`, true);
      pending.timer = setTimeout(() => this.giveUp(id, error), timeoutMs);
    }
    this.#pending.set(id, pending);
    this.#flush();
    return id;
  }

  /** Nobody waits for it any more. False when it has been sent, so that it may happen all the same. */
  giveUp(id: string, error: PagewireError): boolean {
    const unsent = this.#outgoing.withdraw(id);
    this.#take(id)?.waiter.fail(error);
    return unsent;
  }

  /** Whether a request has been sent, so that only the server can stop it. */
  sent(id: string): boolean {
    return this.#pending.get(id)?.sent ?? true;
  }

  /** Asks the server to stop what was sent as this. */
  cancel(id: string): void {
    this.#outgoing.push({ text: JSON.stringify({ type: "cancel", id }) });
    this.#flush();
  }

  /** A socket is registered: first what the server has not got, then what waits. */
  open(registered: Registered, write: (text: string) => void): void {
    this.#limits = registered.limits;
    if (registered.recovered === "recovered") this.#recover(registered.received);
    else this.#restart(registered);
    this.#pace.restart(this.#limits.frames_per_second, Date.now());
    this.#write = write;
    this.#flush();
  }

  /** The socket is gone; requests wait for the next one. */
  pause(): void {
    this.#write = undefined;
    clearTimeout(this.#pump);
  }

  /** There will be no next socket. */
  close(): void {
    this.pause();
    for (const [id, pending] of [...this.#pending]) this.#lose(id, pending);
    this.#outgoing = new Outgoing();
  }

  /** Takes a frame with an id; false when nobody waits for it. */
  answer(frame: ServerFrame): boolean {
    const id = String(frame["id"]);
    // this one word is about what was sent before the page came back, and proves nothing about what came after
    if (frame["code"] !== "uncertain") this.#outgoing.answered(id);
    const pending = this.#pending.get(id);
    if (pending?.waiter.take(frame)) this.#take(id);
    return pending !== undefined;
  }

  #recover(received: number): void {
    const wanted = ({ id }: { id?: string }): boolean => id === undefined || this.#pending.has(id);
    for (const { id } of this.#outgoing.recover(received, wanted)) {
      const pending = id === undefined ? undefined : this.#pending.get(id);
      if (pending) pending.sent = false;
    }
  }

  #restart({ received, recovered }: Registered): void {
    this.#outgoing.restart(received);
    for (const [id, pending] of [...this.#pending]) {
      if (!pending.sent) continue;
      if (recovered === "reset" && pending.waiter.reset) pending.waiter.reset();
      else this.#lose(id, pending);
    }
  }

  #flush(): void {
    clearTimeout(this.#pump);
    for (let frame; this.#write && (frame = this.#outgoing.peek()); ) {
      const { id, text } = frame;
      if (id !== undefined && bytes(text) > this.#limits.max_frame) {
        this.giveUp(id, new PagewireError("too_large", `a frame has at most ${this.#limits.max_frame} bytes`));
        continue;
      }
      const wait = this.#pace.waitMs(Date.now());
      if (wait > 0) {
        this.#pump = setTimeout(() => this.#flush(), wait);
        return;
      }
      this.#outgoing.shift();
      const pending = id === undefined ? undefined : this.#pending.get(id);
      if (pending) pending.sent = true;
      this.#write(text);
    }
  }

  #lose(id: string, { sent, waiter }: Pending): void {
    this.#take(id);
    const error = sent
      ? new PagewireError("uncertain", "the answer is lost; it may or may not have happened")
      : new PagewireError("closed", "the page closed before this was sent", true);
    waiter.fail(error);
  }

  #take(id: string): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(pending?.timer);
    return pending;
  }
}

/** An `error` frame as an error. */
export function serverError(frame: ServerFrame): PagewireError {
  return new PagewireError(String(frame["code"]), String(frame["message"]), frame["retryable"] === true);
}

const encoder = new TextEncoder();

function bytes(text: string): number {
  return encoder.encode(text).length;
}
