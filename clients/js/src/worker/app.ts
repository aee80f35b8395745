// An application: a set of handlers, and the start of the process as a child.

import { createConnection } from "node:net";
import { relative } from "node:path";
import { Child } from "./child.js";
import { Handler } from "./handler.js";
import { ready } from "./ready.js";
import type { App, HandlerFunction, HandlerOptions } from "./types.js";
import { frame, type Message } from "./wire.js";

/** How long the program may clean up after its work, in ms. Then the process exits, whatever keeps it alive. */
const LEAVE_MS = 2_000;

/** Options of an application. */
export interface AppOptions {
  /** How much work the child takes at a time; by default the configuration of the pool decides. */
  slots?: number;
}

/**
 * Returns an application without handlers.
 *
 * ```js
 * const app = worker();
 * app.handle("thumb", { mode: "any", retries: 3 }, async (ctx, params) => resize(params, ctx.signal));
 * await app.run();
 * ```
 */
export function worker(options: AppOptions = {}): App {
  return new Application(options);
}

class Application implements App {
  readonly #handlers = new Map<string, Handler>();
  readonly #slots: number | undefined;
  #running: Promise<void> | undefined;

  constructor({ slots }: AppOptions) {
    if (slots !== undefined && !(Number.isInteger(slots) && slots > 0))
      throw new RangeError("slots is a number from 1");
    this.#slots = slots;
  }

  handle(name: string, ...rest: [HandlerFunction<any, any>] | [HandlerOptions, HandlerFunction<any, any>]): App {
    const [options, run] = rest.length === 1 ? [{}, rest[0]] : rest;
    const handler = new Handler(name, options, run);
    if (this.#handlers.has(name)) throw new Error(`there are two handlers with the name \`${name}\``);
    this.#handlers.set(name, handler);
    return this;
  }

  run(): Promise<void> {
    return (this.#running ??= this.#start());
  }

  #start(): Promise<void> {
    // removed, so that programs that a handler starts are not taken for this child
    const { PAGEWIRE_SOCKET: path, PAGEWIRE_TOKEN: token = "" } = process.env;
    delete process.env["PAGEWIRE_SOCKET"];
    delete process.env["PAGEWIRE_TOKEN"];
    if (path === undefined) exit(explanation(process.argv.slice(1), process.execArgv));
    return serve(path, ready(this.#handlers, token, this.#slots), this.#handlers);
  }
}

function serve(path: string, introduction: Message, handlers: ReadonlyMap<string, Handler>): Promise<void> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const finished = (): void => {
      setTimeout(() => process.exit(), LEAVE_MS).unref();
      resolve();
    };
    const child = new Child(socket, handlers, { finished, lost: exit });
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => child.drain());
    process.on("unhandledRejection", (reason) => onUnhandled(child, reason));
    socket.write(frame(introduction));
  });
}

/** Handles a promise that rejects without a handler. A request that is not waited for must not end the work of others. */
function onUnhandled(child: Child, reason: unknown): void {
  if (child.isRefusal(reason)) {
    process.stderr.write(`pagewire: a request that is not waited for: ${String(reason)}\n`);
    child.unhandled(reason);
    // what Node does without a listener
  } else if (process.listenerCount("unhandledRejection") === 1) throw reason;
}

/** Ends the process at once: handlers that run have no effects any more. */
function exit(reason: string): never {
  process.stderr.write(`pagewire: ${reason}\n`);
  process.exit(1);
}

function explanation([script = "app.js", ...rest]: readonly string[], options: readonly string[]): string {
  const command = ["node", ...options, relative(process.cwd(), script) || script, ...rest];
  return `this process was not started by Pagewire. Start it in one of these ways:
    pagewire dev -- ${command.join(" ")}
    a pool in pagewire.toml:    [[pool]]
                                name = "default"
                                command = ${JSON.stringify(command)}`;
}
