import { PagewireError } from "./error.js";
import { serverError, type Requests } from "./requests.js";

/** How long a caller waits. */
export interface Patience {
  timeout_ms?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Sends a request with one reply as soon as a socket is open. The reply of the server settles the promise. */
export function ask(requests: Requests, frame: object, { timeout_ms, signal }: Patience = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const cancelled = new PagewireError("cancelled", "the caller wanted it no more");
    if (signal?.aborted) throw cancelled;
    const settled = new AbortController();
    const settle = (how: () => void): true => {
      settled.abort();
      how();
      return true;
    };
    const waiter = {
      take: (answer: Parameters<typeof serverError>[0]): boolean =>
        settle(() => (answer.type === "result" ? resolve(answer["value"]) : reject(serverError(answer)))),
      fail: (error: PagewireError): void => void settle(() => reject(error)),
    };
    const id = requests.begin(frame, waiter, timeout_ms);
    const abort = (): void => {
      if (!requests.giveUp(id, cancelled)) requests.cancel(id);
    };
    signal?.addEventListener("abort", abort, { once: true, signal: settled.signal });
  });
}
