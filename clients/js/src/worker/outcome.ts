// The one end of a piece of work: the frame for a result or an exception. Sends nothing.

import { inspect } from "node:util";
import { PagewireError } from "../error.js";
import { Cancelled, Conflict, Fail, Retry } from "./errors.js";
import { encode, LIMIT, pack } from "./wire.js";

/** The most characters of an error's message. */
const MESSAGE = 4_000;
/** The most characters of a stack: its start. */
const TRACE = 32_000;
/** The longest time in ms that a job can be put off. */
const LONGEST_MS = 1e13;

/** Ends an attempt that is put off. Thrown by `ctx.snooze`. */
export class Snoozed extends Error {
  readonly ms: number;

  constructor(ms: number) {
    super(`the job is put off by ${ms} ms`);
    this.ms = ms;
  }
}

/** What an end names of its work. */
export interface EndedWork {
  readonly id: number;
  readonly method: string;
  readonly cancelled: string | undefined;
}

/** Returns the frame for the value that a handler has returned. */
export function result({ id, method }: EndedWork, value: unknown, limit = LIMIT): Buffer {
  let body: string;
  try {
    body = `{"t":"result","id":${id},"value":${encode(value)}}`;
  } catch (cause) {
    return error(id, "failed", `the result of \`${method}\` is not JSON: ${textOf(cause)}`);
  }
  const bytes = Buffer.byteLength(body);
  if (bytes <= limit) return pack(body);
  const text = `the result of \`${method}\` has ${bytes} bytes as a frame; at most ${limit} are possible`;
  return error(id, "too_large", text);
}

/** Returns the frame for what a handler has thrown. */
export function failure({ id, cancelled }: EndedWork, cause: unknown): Buffer {
  if (cause instanceof Snoozed) return pack(`{"t":"snooze","id":${id},"after_ms":${milliseconds(cause.ms)}}`);
  if (cause instanceof Retry) return error(id, "failed", cause.message, true, { after_ms: cause.afterMs });
  if (cause instanceof Fail) return error(id, cause.code, cause.message);
  // a conflict is resolved by running the handler again
  if (cause instanceof PagewireError) {
    return error(id, cause.code, cause.message, cause.retryable || cause instanceof Conflict);
  }
  if (cancelled !== undefined && stops(cause)) return stopped(id);
  const name = cause instanceof Error ? `${cause.name}: ` : "";
  return error(id, "failed", name + textOf(cause), true, { trace: traceOf(cause) });
}

/** Returns the frame for work that has stopped because it was cancelled. */
export function stopped(id: number): Buffer {
  return pack(`{"t":"stopped","id":${id}}`);
}

/** Returns the frame for work that is refused before a handler runs. */
export function refused(id: number, code: string, message: string, retryable = false): Buffer {
  return error(id, code, message, retryable);
}

/** Returns the frame for work that arrives when the child is about to exit. */
export function notBegun(id: number, type: string): Buffer {
  if (type === "job") return pack(`{"t":"snooze","id":${id},"after_ms":0}`);
  return error(id, "unavailable", "the child is about to exit", true);
}

function stops(cause: unknown): boolean {
  // what `fetch`, timers and streams throw when a signal is aborted
  return cause instanceof Cancelled || (cause instanceof Error && cause.name === "AbortError");
}

function error(
  id: number,
  code: string,
  message: string,
  retryable = false,
  { after_ms, trace }: { after_ms?: number | undefined; trace?: string } = {},
): Buffer {
  const short = message.length <= MESSAGE ? message : `${message.slice(0, MESSAGE)}…`;
  const body = {
    t: "error",
    id,
    code: String(code).toWellFormed() || "failed",
    message: short.toWellFormed() || "the error has no message",
    retryable,
    ...(after_ms !== undefined && { after_ms: milliseconds(after_ms) }),
    ...(trace !== undefined && { trace: trace.toWellFormed() }),
  };
  return pack(JSON.stringify(body));
}

function milliseconds(ms: number): number {
  return Math.max(0, Math.round(Math.min(Number(ms) || 0, LONGEST_MS)));
}

function textOf(cause: unknown): string {
  try {
    return cause instanceof Error ? String(cause.message) : String(cause);
  } catch {
    return "(no text)"; // a value of the handler that cannot be made a text
  }
}

function traceOf(cause: unknown): string {
  let text: string;
  try {
    text = inspect(cause);
  } catch {
    text = "(this error cannot be printed)";
  }
  return text.length <= TRACE ? text : `${text.slice(0, TRACE)}…`;
}
