// Lines of the server's log. A line is never an error of the handler: what is not JSON is written as text.

import { inspect } from "node:util";
import type { Log } from "./types.js";
import { encode, type Message } from "./wire.js";

const MAX_MESSAGE = 16_000;
const MAX_FIELDS = 64_000;

/** Returns the log of a piece of work. */
export function logOf(work: number, send: (line: Message) => void): Log {
  const at =
    (level: keyof Log) =>
    (message: string, fields?: Record<string, unknown>): void => {
      const text = String(message).slice(0, MAX_MESSAGE).toWellFormed();
      send({ t: "log", level, message: text, ...(fields && { fields: loggable(fields) }), work });
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function loggable(fields: Record<string, unknown>): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  let size = 0;
  for (const [name, value] of Object.entries(fields)) {
    const text = asJson(value);
    size += text.length;
    Object.defineProperty(found, name.toWellFormed(), { value: JSON.parse(text) as unknown, enumerable: true });
  }
  return size <= MAX_FIELDS ? found : { dropped: "the fields are too large" };
}

function asJson(value: unknown): string {
  try {
    return encode(value instanceof Error ? inspect(value) : value);
  } catch {
    return JSON.stringify(printed(value));
  }
}

function printed(value: unknown): string {
  try {
    return inspect(value).slice(0, MAX_MESSAGE).toWellFormed();
  } catch {
    return "(this value cannot be printed)";
  }
}
