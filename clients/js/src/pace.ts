// Limits the frames per second to the rate that the server accepts. Pure.

/** The part of the rate for requests; the rest is for acknowledgements and pings. */
const SHARE = 0.9;

/** A token bucket that stays below `rate` in every second: half of it as burst, half as flow. */
export class Pace {
  #rate = 1;
  #tokens = 0;
  #at = 0;

  /** Starts with a new socket and its limit. */
  restart(rate: number, now: number): void {
    this.#rate = Math.max(1, (rate * SHARE) / 2);
    this.#tokens = this.#rate;
    this.#at = now;
  }

  /** Returns 0 and counts a frame that may be sent now, otherwise the ms to wait. */
  waitMs(now: number): number {
    this.#tokens = Math.min(this.#rate, this.#tokens + ((now - this.#at) / 1000) * this.#rate);
    this.#at = now;
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return 0;
    }
    return Math.ceil(((1 - this.#tokens) / this.#rate) * 1000);
  }
}
