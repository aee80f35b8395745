import { ask } from "./ask.js";
import type { Requests } from "./requests.js";
import type { CallOptions } from "./types.js";

/** Calls a method of the server. */
export function call(
  requests: Requests,
  method: string,
  params: unknown,
  { signal, ...rest }: CallOptions = {},
): Promise<unknown> {
  return ask(requests, { type: "call", method, params, ...rest }, { signal, timeout_ms: rest.timeout_ms });
}
