// The client's counted frames (all but hello, ack and ping): what waits, and what may have to be sent again. Pure.

/** A frame as it goes over the wire. */
export interface Frame {
  /** The id of its request. Absent: no answer names it, and it goes out whoever waits. */
  readonly id?: string;
  readonly text: string;
}

export class Outgoing {
  /** Not on the present socket. */
  #queue: Frame[] = [];
  /** On the present socket, in order, not known to be processed. */
  #sent: Frame[] = [];
  /** How many frames the server has processed before `#sent`. */
  #processed = 0;

  push(frame: Frame): void {
    this.#queue.push(frame);
  }

  /** The frame to send next. */
  peek(): Frame | undefined {
    return this.#queue[0];
  }

  /** The next frame has been sent. */
  shift(): void {
    const frame = this.#queue.shift();
    if (frame) this.#sent.push(frame);
  }

  /** Takes a frame back; false when it has been sent. */
  withdraw(id: string): boolean {
    const place = this.#queue.findIndex((frame) => frame.id === id);
    return place >= 0 && this.#queue.splice(place, 1).length > 0;
  }

  /** An answer proves that its frame and all before it were processed. */
  answered(id: string): void {
    const place = this.#sent.findIndex((frame) => frame.id === id);
    this.#sent.splice(0, place + 1);
    this.#processed += place + 1;
  }

  /**
   * The page was recovered: what the server has not processed goes first, as far as anybody still waits for it.
   * Returns that.
   */
  recover(received: number, wanted: (frame: Frame) => boolean): Frame[] {
    const lost = this.#sent.slice(Math.max(0, received - this.#processed)).filter(wanted);
    this.#queue = [...lost, ...this.#queue];
    this.#sent = [];
    this.#processed = received;
    return lost;
  }

  /** The server counts anew; nobody can tell what became of the frames that were sent. */
  restart(received: number): void {
    this.#sent = [];
    this.#processed = received;
  }
}
