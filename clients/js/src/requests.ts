import { PagewireError } from "./error.js";
import { Outgoing } from "./outgoing.js";
import { Pace } from "./pace.js";
import type { Registered, ServerFrame } from "./types.js";

/** Receives the frames that reply to a request. */
export interface Waiter {
  /** Takes a frame with the request's id. Returns true if it was the last one. */
  take(frame: ServerFrame): boolean;
  /** Ends the request: no more frames will arrive. */
  fail(error: PagewireError): void;
  /** Handles a reset; only for requests that outlive it. The server will report the state of the request. */
  reset?(): void;
}

interface Pending {
  waiter: Waiter;
  /** The request was sent on some socket, so it may have been processed. */
  sent: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

type Limits = Registered["limits"];

/** Requests from their submission to their last frame, over any number of sockets. */
export class Requests {
  #pending = new Map<string, Pending>();
  #outgoing = new Outgoing();
  #pace = new Pace();
  #limits: Limits = { max_frame: Infinity, frames_per_second: Infinity };
  #write: ((text: string) => void) | undefined;
  #pump: ReturnType<typeof setTimeout> | undefined;
  #maxPending: number;
  #count = 0;
  /** A prefix for ids, so that a reloaded document does not mistake a reply to its predecessor for its own. */
  readonly #prefix = Math.random().toString(36).slice(2, 8);

  constructor(maxPending: number) {
    this.#maxPending = maxPending;
  }

  /**
   * The ids of sent, unfinished requests that outlive a reset. The server is queried for them when the page resumes.
   */
  get lasting(): string[] {
    return [...this.#pending].filter(([, { sent, waiter }]) => sent && waiter.reset).map(([id]) => id);
  }

  /** Sends a frame as soon as a socket is open. Returns the id of its replies. */
  begin(frame: object, waiter: Waiter, timeoutMs?: number): string {
    if (this.#pending.size >= this.#maxPending) {
      throw new PagewireError("overflow", `${this.#maxPending} requests are waiting already`, true);
    }
    return this.add(frame, waiter, timeoutMs);
  }

  /** Like `begin`, for the page's own requests: has no limit on waiting requests. */
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

  /** Stops waiting for a request. Returns false if it was sent, so that it may still be processed. */
  giveUp(id: string, error: PagewireError): boolean {
    const unsent = this.#outgoing.withdraw(id);
    this.#take(id)?.waiter.fail(error);
    return unsent;
  }

  /** Returns whether a request was sent, so that only the server can stop it. */
  sent(id: string): boolean {
    return this.#pending.get(id)?.sent ?? true;
  }

  /** Asks the server to cancel the request with this id. */
  cancel(id: string): void {
    this.#outgoing.push({ text: JSON.stringify({ type: "cancel", id }) });
    this.#flush();
  }

  /** Handles a registered socket: first resends the unprocessed frames, then sends the waiting ones. */
  open(registered: Registered, write: (text: string) => void): void {
    this.#limits = registered.limits;
    if (registered.recovered === "recovered") this.#recover(registered.received);
    else this.#restart(registered);
    this.#pace.restart(this.#limits.frames_per_second, Date.now());
    this.#write = write;
    this.#flush();
  }

  /** Goes on with the same socket after a pause. */
  continue(write: (text: string) => void): void {
    this.#write = write;
    this.#flush();
  }

  /** Handles a lost socket: requests wait for the next one. */
  pause(): void {
    this.#write = undefined;
    clearTimeout(this.#pump);
  }

  /** Ends all requests, because there will be no next socket. */
  close(): void {
    this.pause();
    for (const [id, pending] of [...this.#pending]) this.#lose(id, pending);
    this.#outgoing = new Outgoing();
  }

  /** Takes a frame with an id. Returns false if no caller waits for it. */
  answer(frame: ServerFrame): boolean {
    const id = String(frame["id"]);
    // `uncertain` refers to frames from before the page resumed, and proves nothing about later frames
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

/** Converts an `error` frame into an error. */
export function serverError(frame: ServerFrame): PagewireError {
  return new PagewireError(String(frame["code"]), String(frame["message"]), frame["retryable"] === true);
}

const encoder = new TextEncoder();

function bytes(text: string): number {
  return encoder.encode(text).length;
}
