import type { JobEnd } from "./types.js";

/** Why a request failed or a page closed. Programs decide by `code`, people read `message`. */
export class PagewireError extends Error {
  /**
   * The server's codes (`forbidden`, `unknown`, `timeout`, `no_executor`, …) and the client's own:
   * `uncertain` (it was sent, the answer is lost: it may or may not have happened), `closed` (it was never
   * sent), `origin` (the server's `websocket.origins` does not list this page's), `cancelled` (somebody wanted it no more), `overflow` (too much is waiting), `timeout` and `too_large` as
   * the server means them.
   */
  readonly code: string;
  /** Whether the same request can succeed later. */
  readonly retryable: boolean;
  /** How a job ended: `failed`, `cancelled` or `dead`. Absent when it did not end, and for all that is no job. */
  readonly state: JobEnd | undefined;

  constructor(code: string, message: string, retryable = false, state?: JobEnd) {
    super(message);
    this.name = "PagewireError";
    this.code = code;
    this.retryable = retryable;
    this.state = state;
  }
}
