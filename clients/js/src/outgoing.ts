// The client's counted frames (all but hello, ack and ping): queued frames, and sent frames that may have to be resent.
// Pure.

/** A frame as sent on the wire. */
export interface Frame {
  /** The id of its request. Absent if no reply refers to it; such a frame is always sent. */
  readonly id?: string;
  readonly text: string;
}

export class Outgoing {
  /** Not sent on the current socket. */
  #queue: Frame[] = [];
  /** Sent on the current socket, in order, and not known to be processed. */
  #sent: Frame[] = [];
  /** The number of frames that the server has processed before `#sent`. */
  #processed = 0;

  push(frame: Frame): void {
    this.#queue.push(frame);
  }

  /** Returns the frame to send next. */
  peek(): Frame | undefined {
    return this.#queue[0];
  }

  /** Marks the next frame as sent. */
  shift(): void {
    const frame = this.#queue.shift();
    if (frame) this.#sent.push(frame);
  }

  /** Withdraws a queued frame; returns false if it was sent already. */
  withdraw(id: string): boolean {
    const place = this.#queue.findIndex((frame) => frame.id === id);
    return place >= 0 && this.#queue.splice(place, 1).length > 0;
  }

  /** Handles a reply, which proves that its frame and all earlier ones were processed. */
  answered(id: string): void {
    const place = this.#sent.findIndex((frame) => frame.id === id);
    this.#sent.splice(0, place + 1);
    this.#processed += place + 1;
  }

  /**
   * Continues after the page was recovered: frames that the server has not processed are sent first, unless their
   * callers have stopped waiting. Returns them.
   */
  recover(received: number, wanted: (frame: Frame) => boolean): Frame[] {
    const lost = this.#sent.slice(Math.max(0, received - this.#processed)).filter(wanted);
    this.#queue = [...lost, ...this.#queue];
    this.#sent = [];
    this.#processed = received;
    return lost;
  }

  /** Starts the count anew after a reset: whether the frames sent before were processed is unknown. */
  restart(received: number): void {
    this.#sent = [];
    this.#processed = received;
  }
}
