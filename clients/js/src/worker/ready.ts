// The first message of a child.

import type { Handler } from "./handler.js";
import { LIMIT, type Message } from "./wire.js";

/** The version of this package; a test compares it with package.json. */
export const VERSION = "0.1.0";

/** Returns the first message of a child. */
export function ready(handlers: ReadonlyMap<string, Handler>, token: string, slots?: number): Message {
  const methods = [...handlers.values()].map((handler) => handler.describe());
  // schemas and documentation are for people
  if (JSON.stringify(methods).length > LIMIT / 2) {
    for (const method of methods) for (const member of ["schema", "returns", "doc"]) delete method[member];
  }
  const own = { t: "ready", protocol: [1], token, pid: process.pid, sdk: `node/${VERSION}` };
  return { ...own, ...(slots !== undefined && { slots }), methods };
}
