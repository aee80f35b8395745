// Frames of the child wire (docs/child.md): a length and a JSON object. Knows nothing of the meaning of a message.

import { isUtf8 } from "node:buffer";

/** The largest body of a frame in bytes. */
export const LIMIT = 1 << 20;
/** The most levels of arrays and objects in a value. */
const LEVELS = 64;
const PREFIX = 4;

/** A message of either side. `t` names its type. */
export interface Message {
  t: string;
  [member: string]: unknown;
}

/** The other side of the socket has broken the rules of frames. */
export class BrokenWire extends Error {}

/**
 * Returns a value as JSON. Throws a `TypeError` for what JSON cannot hold, because `NaN` would silently become `null`
 * and other programs cannot read half of a surrogate pair.
 */
export function encode(value: unknown): string {
  if (typeof value === "function" || typeof value === "symbol") throw new TypeError(`it is a ${typeof value}`);
  const text = JSON.stringify(value) ?? "null";
  // only a text with one of these parts can come from such a value
  if (text.includes("null") || text.includes("\\ud")) JSON.stringify(value, strict);
  if (text.length > 2 * LEVELS && levels(text) > LEVELS) throw new TypeError(`it has more than ${LEVELS} levels`);
  return text;
}

function strict(key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${key || "it"} is ${value}`);
  const text = typeof value === "string" ? value : "";
  if (!text.isWellFormed() || !key.isWellFormed()) throw new TypeError("a text has half of a surrogate pair");
  return value;
}

/** Returns how many levels of arrays and objects a JSON text has. */
function levels(text: string): number {
  let level = 0;
  let most = 0;
  for (let place = 0; place < text.length; place++) {
    const letter = text[place];
    if (letter === '"') place = endOfString(text, place);
    else if (letter === "[" || letter === "{") most = Math.max(most, ++level);
    else if (letter === "]" || letter === "}") level--;
  }
  return most;
}

function endOfString(text: string, begin: number): number {
  let end = text.indexOf('"', begin + 1);
  while (end > 0 && escaped(text, end)) end = text.indexOf('"', end + 1);
  return end < 0 ? text.length : end;
}

function escaped(text: string, place: number): boolean {
  let slashes = 0;
  while (text[place - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}

/** Returns the frame of an encoded body. */
export function pack(body: string): Buffer {
  const length = Buffer.byteLength(body);
  const data = Buffer.allocUnsafe(PREFIX + length);
  data.writeUInt32BE(length);
  data.write(body, PREFIX);
  return data;
}

/** Returns the frame of a message. */
export function frame(message: Message): Buffer {
  return pack(encode(message));
}

/** Collects received bytes until messages are whole. */
export class FrameReader {
  #parts: Buffer[] = [];
  #size = 0;
  /** How many bytes the next message needs at least. */
  #wanted = PREFIX;

  /**
   * Takes received bytes and returns the messages that are whole now. Throws `BrokenWire` for a frame that is too long,
   * not JSON, or without a type.
   */
  read(chunk: Buffer): Message[] {
    this.#parts.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return [];
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts);
    const messages: Message[] = [];
    let at = 0;
    for (;;) {
      const left = bytes.length - at;
      this.#wanted = PREFIX + (left < PREFIX ? 0 : lengthAt(bytes, at));
      if (left < this.#wanted) break;
      messages.push(parse(bytes.subarray(at + PREFIX, at + this.#wanted)));
      at += this.#wanted;
    }
    this.#parts = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#size = bytes.length - at;
    return messages;
  }
}

function lengthAt(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at);
  if (length > LIMIT) throw new BrokenWire(`a frame of ${length} bytes; the limit is ${LIMIT}`);
  return length;
}

function parse(body: Buffer): Message {
  if (!isUtf8(body)) throw new BrokenWire("a frame that is not UTF-8");
  let message: unknown;
  try {
    message = JSON.parse(body.toString());
  } catch (error) {
    throw new BrokenWire(`a frame that is not JSON: ${String(error)}`);
  }
  const typed = typeof message === "object" && message !== null && "t" in message && typeof message.t === "string";
  if (!typed) throw new BrokenWire("a frame without a type");
  return message as Message;
}
