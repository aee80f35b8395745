import type { Incoming } from "./incoming.js";

/** The longest time in ms until a received frame is acknowledged. */
const ACK_MS = 5_000;

/** Acknowledges received frames: after a while, or at once when many wait for it. */
export class Acks {
  readonly #incoming: Incoming;
  /** Acknowledges a `seq`, unless nothing may be acknowledged now. Returns whether it did. */
  readonly #send: () => boolean;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(incoming: Incoming, send: () => boolean) {
    this.#incoming = incoming;
    this.#send = send;
  }

  /** Handles frames that have arrived. */
  arrived(): void {
    if (this.#incoming.due && this.now()) return;
    if (this.#incoming.unacked) this.#timer ??= setTimeout(() => this.now(), ACK_MS);
  }

  /** Acknowledges everything, if there is anything to acknowledge. Returns whether nothing is left. */
  now(): boolean {
    this.stop();
    return !this.#incoming.unacked || this.#send();
  }

  /** Stops waiting, because there is no socket. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
