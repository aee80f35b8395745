import { PagewireError } from "./error.js";
import { Outgoing } from "./outgoing.js";
import { Pace } from "./pace.js";
import type { Registered, ServerFrame } from "./types.js";

interface Pending {
  resolve(value: unknown): void;
  reject(error: PagewireError): void;
  /** It went onto some socket: it may have happened. */
  sent: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

type Limits = Registered["limits"];

/** Requests from the asking to their one answer, over as many sockets as it takes. */
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

  /** Sends a frame as soon as there is a socket for it; settles by the server's answer. */
  ask(frame: object, timeoutMs?: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#pending.size >= this.#maxPending) {
        throw new PagewireError("overflow", `${this.#maxPending} requests are waiting already`, true);
      }
      const id = `${this.#prefix}.${++this.#count}`;
      const pending: Pending = { resolve, reject, sent: false };
      this.#outgoing.push({ id, text: JSON.stringify({ ...frame, id }) });
      if (timeoutMs !== undefined) {
        pending.timer = setTimeout(() => this.#expire(id, timeoutMs), timeoutMs);
      }
      this.#pending.set(id, pending);
      this.#flush();
    });
  }

  /** A socket is registered: first what the server has not got, then what waits. */
  open(registered: Registered, write: (text: string) => void): void {
    this.#limits = registered.limits;
    if (registered.recovered === "recovered") {
      this.#outgoing.recover(registered.received, (frame) => this.#pending.has(frame.id));
    } else {
      this.#outgoing.restart(registered.received);
      this.#fail((pending) => pending.sent);
    }
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
    this.#fail(() => true);
    this.#outgoing = new Outgoing();
  }

  /** Takes a `result` or `error` frame; false when it answers nothing of ours. */
  answer(frame: ServerFrame): boolean {
    const id = String(frame["id"]);
    this.#outgoing.answered(id);
    const pending = this.#take(id);
    if (frame.type === "result") pending?.resolve(frame["value"]);
    else pending?.reject(serverError(frame));
    return pending !== undefined;
  }

  #flush(): void {
    clearTimeout(this.#pump);
    for (let frame; this.#write && (frame = this.#outgoing.peek()); ) {
      if (bytes(frame.text) > this.#limits.max_frame) {
        this.#outgoing.withdraw(frame.id);
        const limit = `a frame has at most ${this.#limits.max_frame} bytes`;
        this.#take(frame.id)?.reject(new PagewireError("too_large", limit));
        continue;
      }
      const wait = this.#pace.waitMs(Date.now());
      if (wait > 0) {
        this.#pump = setTimeout(() => this.#flush(), wait);
        return;
      }
      this.#outgoing.shift();
      const pending = this.#pending.get(frame.id);
      if (pending) pending.sent = true;
      this.#write(frame.text);
    }
  }

  #expire(id: string, timeoutMs: number): void {
    this.#outgoing.withdraw(id);
    this.#take(id)?.reject(new PagewireError("timeout", `no answer within ${timeoutMs} ms`, true));
  }

  #fail(which: (pending: Pending) => boolean): void {
    for (const [id, pending] of [...this.#pending].filter(([, pending]) => which(pending))) {
      this.#take(id);
      const error = pending.sent
        ? new PagewireError("uncertain", "the answer is lost; it may or may not have happened")
        : new PagewireError("closed", "the page closed before this was sent", true);
      pending.reject(error);
    }
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
