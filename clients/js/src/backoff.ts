// Computes the delay before the next attempt. Pure.

import type { Backoff } from "./types.js";

/** The longest delay in ms, below the limit of browser timers (2³¹ − 1 ms). */
const LONGEST_MS = 3_600_000;

/**
 * Returns a delay with full jitter: anywhere in the window, so that clients that lost the same server do not return
 * together. The server's advice is a minimum, and the window spreads the clients behind it.
 */
export function delayMs(attempt: number, backoff: Backoff, advisedMs: number, random: () => number): number {
  const window = Math.min(backoff.cap_ms, backoff.base_ms * 2 ** Math.min(attempt, 30));
  return Math.min(LONGEST_MS, Math.round(advisedMs + random() * window));
}
