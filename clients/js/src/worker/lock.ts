// A lock that a handler holds: a lease with a fencing token, renewed while it is held. Who gets it is decided elsewhere.

import { PagewireError } from "../error.js";
import type { Lock, LockOptions } from "./types.js";
import type { Ask } from "./tree.js";

const TTL_MS = 30_000;

interface Lease {
  token: number;
  ttl_ms: number;
}

/** The requests of a lock. A cancel ends none of `keep`: a renewal is no request of the handler, a release is clean-up. */
export interface LockRequests {
  ask: Ask;
  keep: Ask;
}

/** Acquires a lock. */
export async function acquire(requests: LockRequests, name: string, options: LockOptions): Promise<Lock> {
  const { ttlMs = TTL_MS, waitMs } = options;
  const params = { name, ttl_ms: ttlMs, ...(waitMs !== undefined && { wait_ms: waitMs }) };
  const { token, ttl_ms } = (await requests.ask("lock.acquire", params)) as Lease;
  return new HeldLock(requests, name, token, ttl_ms);
}

class HeldLock implements Lock {
  readonly name: string;
  readonly token: number;
  readonly #requests: LockRequests;
  readonly #ttlMs: number;
  readonly #timer: ReturnType<typeof setInterval>;
  /** When the lease ends. It is counted from the answer, because a request that waits takes longer than the lease. */
  #until: number;

  constructor(requests: LockRequests, name: string, token: number, ttlMs: number) {
    this.name = name;
    this.token = token;
    this.#requests = requests;
    this.#ttlMs = ttlMs;
    this.#until = performance.now() + ttlMs;
    this.#timer = setInterval(() => void this.#renew(), ttlMs / 3);
    this.#timer.unref();
  }

  get held(): boolean {
    return performance.now() < this.#until;
  }

  async release(): Promise<void> {
    if (!this.#drop()) return;
    await this.#requests.keep("lock.release", { name: this.name, token: this.token });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  async #renew(): Promise<void> {
    const until = performance.now() + this.#ttlMs;
    try {
      await this.#requests.keep("lock.renew", { name: this.name, token: this.token, ttl_ms: this.#ttlMs });
      // not after the release
      if (this.#until > 0) this.#until = until;
    } catch (error) {
      if (!(error instanceof PagewireError) || !error.retryable) this.#drop();
    }
  }

  /** Ends the renewal. Returns whether the lock was not dropped before. */
  #drop(): boolean {
    clearInterval(this.#timer);
    const was = this.#until > 0;
    this.#until = 0;
    return was;
  }
}
