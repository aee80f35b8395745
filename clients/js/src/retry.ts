import { delayMs } from "./backoff.js";
import type { Backoff } from "./types.js";

/** How long a socket must live, in ms, so that it does not count as a failed attempt. */
const STABLE_MS = 5_000;

/** The wait between two attempts to connect. */
export class Retry {
  readonly #backoff: Backoff;
  #failures = 0;
  #openedAt = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The server has asked for the wait, so nothing shortens it. */
  advised = false;

  constructor(backoff: Backoff) {
    this.#backoff = backoff;
  }

  /** Notes that a socket is registered. */
  opened(): void {
    this.#openedAt = Date.now();
  }

  /** Attempts again after a wait of at least `advisedMs`. Returns the wait in ms. */
  schedule(advisedMs: number, attempt: () => void): number {
    if (Date.now() - this.#openedAt >= STABLE_MS) this.#failures = 0;
    this.#openedAt = Infinity;
    const delay = delayMs(this.#failures++, this.#backoff, advisedMs, Math.random);
    this.advised = advisedMs > 0;
    this.#timer = setTimeout(attempt, delay);
    return delay;
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }
}
