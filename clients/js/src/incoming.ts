// The server's numbered frames: which are new, and when to acknowledge them. Pure.

/** Acknowledge at the latest after this many frames. */
const ACK_EVERY = 32;

export class Incoming {
  #last = 0;
  #acked = 0;

  /** The last `seq` seen. */
  get last(): number {
    return this.#last;
  }

  /** The server continues behind `seq`. */
  restart(seq: number): void {
    this.#last = seq;
    this.#acked = seq;
  }

  /** A gap cannot happen on a correct server; taking the frame would hide that something is missing. */
  accept(seq: number): "new" | "duplicate" | "gap" {
    if (seq <= this.#last) return "duplicate";
    if (seq > this.#last + 1) return "gap";
    this.#last = seq;
    return "new";
  }

  /** Whether some frame is not acknowledged yet. */
  get unacked(): boolean {
    return this.#last > this.#acked;
  }

  /** Whether so many frames are unacknowledged that waiting longer would fill the server's ring. */
  get due(): boolean {
    return this.#last - this.#acked >= ACK_EVERY;
  }

  /** The `seq` to acknowledge now. */
  ack(): number {
    this.#acked = this.#last;
    return this.#last;
  }
}
