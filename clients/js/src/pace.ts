// Not more frames per second than the server takes. Pure.

/** The part of the rate that requests may use; the rest is for acknowledgements and pings. */
const SHARE = 0.9;

/** A token bucket that stays below `rate` in every second: half of it as burst, half as flow. */
export class Pace {
  #rate = 1;
  #tokens = 0;
  #at = 0;

  /** A new socket with its limit. */
  restart(rate: number, now: number): void {
    this.#rate = Math.max(1, (rate * SHARE) / 2);
    this.#tokens = this.#rate;
    this.#at = now;
  }

  /** 0 when a frame may go now (and counts it), else how long to wait. */
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
