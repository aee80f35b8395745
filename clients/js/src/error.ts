/** How a job can end. */
export type JobEnd = "succeeded" | "failed" | "cancelled" | "dead";

/** The reason why a request failed or a page closed. Programs use `code`, people read `message`. */
export class PagewireError extends Error {
  /**
   * The server's codes (`forbidden`, `unknown`, `timeout`, `no_executor`, …) and the client's own: `uncertain` (the
   * request was sent and its reply is lost: it may or may not have been processed), `closed` (it was never sent),
   * `origin` (the server's `websocket.origins` does not list the origin of this page), `cancelled` (the caller
   * cancelled it), `overflow` (too many requests are waiting), and `timeout` and `too_large` with the same meaning as
   * the server's.
   */
  readonly code: string;
  /** Whether the same request can succeed later. */
  readonly retryable: boolean;
  /** How a job ended: `failed`, `cancelled` or `dead`. Absent if the job did not end, and for everything else. */
  readonly state: JobEnd | undefined;

  constructor(code: string, message: string, retryable = false, state?: JobEnd) {
    super(message);
    this.name = "PagewireError";
    this.code = code;
    this.retryable = retryable;
    this.state = state;
  }
}
