// The parameters and results of `push.send`, `job.*` and `call`. How a request is sent is decided in `child`.

import type { Ask } from "./tree.js";
import type { CallOptions, JobRecord, Jobs, PushTarget, Reach, Recipient, SubmitOptions } from "./types.js";

/** Returns the user, page, session or connection of a piece of work. */
export function recipient(
  level: string,
  id: unknown,
  send: (to: PushTarget, payload: unknown) => Promise<Reach>,
): Recipient {
  if (typeof id !== "string") return { id: undefined, send: async () => ({ reached: 0, held: 0 }) };
  return { id, send: (payload) => send({ [level]: id } as PushTarget, payload) };
}

/** Returns the jobs of a piece of work. */
export function jobs(ask: Ask): Jobs {
  return {
    submit: async (kind, data, options = {}) => {
      const submitted = await ask("job.submit", jobParams(kind, data, options));
      return (submitted as { job: string }).job;
    },
    get: (job) => ask("job.get", { job }) as Promise<JobRecord>,
    cancel: async (job) => ((await ask("job.cancel", { job })) as { state: string }).state,
  };
}

/** Returns the parameters of `job.submit`. */
export function jobParams(kind: string, data: unknown, options: SubmitOptions): object {
  const { user, mode, pool, delayMs, retries, key } = options;
  return {
    kind,
    ...(data !== undefined && { data }),
    ...(user !== undefined && { user }),
    ...(delayMs !== undefined && { run_in_ms: Math.max(0, Math.round(delayMs)) }),
    ...(mode !== undefined && { exec_mode: mode }),
    ...(pool !== undefined && { pool }),
    ...(retries !== undefined && { retries }),
    ...(key !== undefined && { idempotency_key: key }),
  };
}

/** Returns the parameters of `call`. */
export function callParams(method: string, params: unknown, options: CallOptions): object {
  const { user, mode, pool, timeoutMs } = options;
  return {
    method,
    ...(params !== undefined && { params }),
    ...(user !== undefined && { user }),
    ...(timeoutMs !== undefined && { timeout_ms: Math.max(1, Math.round(timeoutMs)) }),
    ...(mode !== undefined && { exec_mode: mode }),
    ...(pool !== undefined && { pool }),
  };
}
