// Tracks the server's numbered frames: which ones are new, and when to acknowledge them. Pure.

/** The most frames without an acknowledgement. */
const ACK_EVERY = 32;

export class Incoming {
  #last = 0;
  #acked = 0;

  /** The last `seq` received. */
  get last(): number {
    return this.#last;
  }

  /** Continues behind `seq`. */
  restart(seq: number): void {
    this.#last = seq;
    this.#acked = seq;
  }

  /** Classifies a frame. A correct server never causes a gap; accepting the frame would hide a missing one. */
  accept(seq: number): "new" | "duplicate" | "gap" {
    if (seq <= this.#last) return "duplicate";
    if (seq > this.#last + 1) return "gap";
    this.#last = seq;
    return "new";
  }

  /** Whether some frames are not acknowledged yet. */
  get unacked(): boolean {
    return this.#last > this.#acked;
  }

  /** Whether so many frames are unacknowledged that waiting longer could fill the server's ring. */
  get due(): boolean {
    return this.#last - this.#acked >= ACK_EVERY;
  }

  /** Returns the `seq` to acknowledge now. */
  ack(): number {
    this.#acked = this.#last;
    return this.#last;
  }
}
