import { PagewireError } from "../error.js";

/** Why work has to stop: a person or program has cancelled it, its time is over, or the child has to end. */
export type CancelReason = "cancelled" | "deadline" | "drain";

/** The value has been changed by another writer since it was read. A job that fails with it is tried again. */
export class Conflict extends PagewireError {
  constructor(message: string, retryable = false) {
    super("conflict", message, retryable);
    this.name = "Conflict";
  }
}

/**
 * A handler throws it to run again later: `throw new Retry("the bank is closed", { afterMs: 30_000 })`. A job is tried
 * again if it has retries left. Without `afterMs` the server chooses the delay.
 */
export class Retry extends Error {
  readonly afterMs: number | undefined;

  constructor(message = "the handler wants to be tried again", options: { afterMs?: number } = {}) {
    super(message);
    this.name = "Retry";
    this.afterMs = options.afterMs;
  }
}

/** A handler throws it to fail for good, with a code of its own: `throw new Fail("no_stock", "sold out")`. */
export class Fail extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "Fail";
    this.code = code;
  }
}

/** The work has to stop. It is the reason of `ctx.signal`; a handler lets it through. */
export class Cancelled extends Error {
  readonly reason: CancelReason;

  constructor(reason: CancelReason) {
    super(`the work has to stop: ${reason}`);
    this.name = "Cancelled";
    this.reason = reason;
  }
}
