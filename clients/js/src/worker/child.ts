// A child's side of the wire: the socket, the work that runs, its requests, and the end of the child.

import type { Socket } from "node:net";
import { PagewireError } from "../error.js";
import { WorkContext, type Port } from "./context.js";
import { Conflict, type CancelReason } from "./errors.js";
import type { Handler } from "./handler.js";
import * as outcome from "./outcome.js";
import { BrokenWire, encode, frame, FrameReader, LIMIT, pack, type Message } from "./wire.js";

/** The most open requests. The supervisor refuses more than 256 of a child. */
const OPEN_REQUESTS = 240;

interface Request {
  work: number;
  /** A cancel of the work does not reject it. */
  isUncancelled: boolean;
  data: Buffer;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** How a child ends: after its work, or because its supervisor is gone or has broken the rules of frames. */
export interface ChildEvents {
  finished(): void;
  lost(reason: string): void;
}

export class Child implements Port {
  readonly #socket: Socket;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #events: ChildEvents;
  readonly #reader = new FrameReader();
  readonly #works = new Map<number, WorkContext>();
  readonly #open = new Map<number, Request>();
  readonly #waiting = new Map<number, Request>();
  /** What requests were rejected with. */
  readonly #refusals = new WeakSet<object>();
  #limit = LIMIT;
  #lastId = 0;
  #welcomed = false;
  #ending = false;
  #over = false;

  constructor(socket: Socket, handlers: ReadonlyMap<string, Handler>, events: ChildEvents) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.#events = events;
    socket.on("data", (chunk) => this.#receive(chunk));
    socket.on("end", () => this.#lose("the supervisor has closed the socket"));
    socket.on("error", (error) => this.#lose(error.message));
    socket.on("close", () => this.#lose("the socket was closed"));
  }

  /** Takes no more work, ends what runs, and then the child. */
  drain(): void {
    this.#ending = true;
    this.#finishIfIdle();
  }

  /** Returns whether this is what a request was rejected with. */
  isRefusal(reason: unknown): reason is object {
    return typeof reason === "object" && reason !== null && this.#refusals.has(reason);
  }

  /** Handles a refusal that no code has handled. A cancel that was told to no other request is told to the next ones. */
  unhandled(refusal: object): void {
    for (const context of this.#works.values()) if (context.unhandled(refusal)) this.#interrupt(context);
  }

  send(message: Message): void {
    this.#socket.write(frame(message));
  }

  async request(work: number, method: string, params: object, isUncancelled = false): Promise<unknown> {
    const id = ++this.#lastId;
    const data = requestFrame(id, work, method, params, this.#limit);
    return new Promise((resolve, reject) => {
      const request = { work, isUncancelled, data, resolve, reject };
      if (this.#open.size < OPEN_REQUESTS) this.#post(id, request);
      else this.#waiting.set(id, request);
    });
  }

  #post(id: number, request: Request): void {
    this.#open.set(id, request);
    this.#socket.write(request.data);
  }

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      for (const message of this.#reader.read(chunk)) this.#take(message);
    } catch (error) {
      if (!(error instanceof BrokenWire)) throw error;
      this.#lose(`the supervisor has sent ${error.message}`);
    }
  }

  #take(message: Message): void {
    if (!this.#welcomed) return this.#welcome(message);
    switch (message.t) {
      case "call":
      case "job":
        return this.#accept(message);
      case "reply":
        return this.#settle(message);
      case "cancel":
        return this.#cancel(message["id"], message["why"] as CancelReason);
      case "ping":
        return this.send({ t: "pong" });
      case "drain":
        return this.drain();
      default:
        if (typeof message["id"] === "number" && message.t !== "welcome") {
          const text = `this child does not know the message \`${message.t.slice(0, 40)}\``;
          this.#socket.write(outcome.refused(message["id"], "unsupported", text));
        }
    }
  }

  #welcome(message: Message): void {
    if (message.t !== "welcome" || (message["protocol"] ?? 1) !== 1) {
      throw new BrokenWire(`${message.t} instead of a welcome to version 1 of the child wire`);
    }
    this.#welcomed = true;
    this.#limit = Math.min(Number(message["max_frame"] ?? LIMIT), LIMIT);
  }

  #accept(message: Message): void {
    const { id, method } = message;
    if (typeof id !== "number" || typeof method !== "string")
      throw new BrokenWire(`a ${message.t} without id or method`);
    const handler = this.#handlers.get(method);
    if (this.#ending) {
      this.#socket.write(outcome.notBegun(id, message.t));
    } else if (!handler) {
      const text = `there is no handler \`${method.slice(0, 200)}\``;
      this.#socket.write(outcome.refused(id, "no_executor", text, true));
    } else {
      const context = new WorkContext(this, message);
      this.#works.set(id, context);
      void this.#run(handler, context, message["params"]);
    }
  }

  async #run(handler: Handler, context: WorkContext, params: unknown): Promise<void> {
    let end: Buffer;
    try {
      end = outcome.result(context, await handler.run(context, params), this.#limit);
    } catch (error) {
      end = outcome.failure(context, error);
    }
    context.end();
    this.#works.delete(context.id);
    this.#forget(context.id, () => new PagewireError("stale", `the work \`${context.method}\` has ended`));
    if (this.#over) return;
    this.#socket.write(end);
    this.#finishIfIdle();
  }

  #cancel(id: unknown, why: CancelReason): void {
    const context = this.#works.get(id as number);
    if (context?.cancel(why)) this.#interrupt(context);
  }

  #interrupt(context: WorkContext): void {
    this.#forget(context.id, () => context.interrupt(), (request) => !request.isUncancelled);
  }

  /** Rejects the requests of a piece of work, or some of them. */
  #forget(work: number, error: () => Error, some: (request: Request) => boolean = () => true): void {
    for (const requests of [this.#open, this.#waiting]) {
      for (const [id, request] of requests) {
        if (request.work !== work || !some(request)) continue;
        requests.delete(id);
        this.#refuse(request, error());
      }
    }
    this.#postWaiting();
  }

  #settle(reply: Message): void {
    const id = reply["id"] as number;
    const request = this.#open.get(id);
    if (!request) return;
    this.#open.delete(id);
    const error = reply["error"] as Partial<PagewireError> | undefined;
    if (error === undefined) request.resolve(reply["value"] ?? null);
    else this.#refuse(request, errorOf(error));
    this.#postWaiting();
  }

  #refuse(request: Request, error: Error): void {
    this.#refusals.add(error);
    request.reject(error);
  }

  #postWaiting(): void {
    for (const [id, request] of this.#waiting) {
      if (this.#open.size >= OPEN_REQUESTS) return;
      this.#waiting.delete(id);
      this.#post(id, request);
    }
  }

  #finishIfIdle(): void {
    if (!this.#ending || this.#works.size > 0 || this.#over) return;
    this.#over = true;
    this.#socket.end(() => {
      this.#socket.destroy();
      this.#events.finished();
    });
  }

  #lose(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#events.lost(this.#welcomed ? reason : `${reason} before its welcome`);
  }
}

/** Returns the frame of a request. Throws if it is not JSON, or too large. */
export function requestFrame(id: number, work: number, method: string, params: object, limit = LIMIT): Buffer {
  let text: string;
  try {
    text = encode(params);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new PagewireError("malformed", `the parameters of ${method} are not JSON: ${reason}`);
  }
  const body = `{"t":"request","id":${id},"work":${work},"method":${JSON.stringify(method)},"params":${text}}`;
  const bytes = Buffer.byteLength(body);
  if (bytes <= limit) return pack(body);
  throw new PagewireError("too_large", `the request ${method} has ${bytes} bytes; at most ${limit} are possible`);
}

/** Returns the error of a reply. */
function errorOf(error: Partial<PagewireError>): PagewireError {
  const { code = "internal", message = code, retryable = false } = error;
  return code === "conflict" ? new Conflict(message, retryable) : new PagewireError(code, message, retryable);
}
