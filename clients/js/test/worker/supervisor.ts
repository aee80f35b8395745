// The supervisor of one child of this process: a Unix socket, and every message that the child has sent.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Child } from "../../src/worker/child.js";
import { Handler } from "../../src/worker/handler.js";
import type { HandlerFunction, HandlerOptions } from "../../src/worker/types.js";
import { frame, FrameReader, type Message } from "../../src/worker/wire.js";

type Run = HandlerFunction<any, unknown>;
type Answer = (params: any) => unknown;

const ENDS = new Set(["result", "error", "stopped", "snooze"]);

/** An answer that is the error of a reply. */
export class Refusal {
  constructor(
    readonly code: string,
    readonly message = code,
    readonly retryable = false,
  ) {}
}

export class Supervisor {
  readonly messages: Message[] = [];
  /** What the child has reported: `finished`, or why it was lost. */
  readonly reports: string[] = [];
  /** The answers to requests by their method. Without one a request stays open. */
  answers: Record<string, Answer>;
  child!: Child;
  #socket!: Socket;
  #lastId = 0;
  #arrived: (() => void)[] = [];

  private constructor(answers: Record<string, Answer>) {
    this.answers = answers;
  }

  /** Starts a child with these handlers and welcomes it. */
  static async start(
    t: TestContext,
    handlers: Record<string, Run | [HandlerOptions, Run]>,
    answers: Record<string, Answer> = {},
  ): Promise<Supervisor> {
    const supervisor = new Supervisor(answers);
    const folder = mkdtempSync(join(tmpdir(), "pagewire-"));
    const server: Server = createServer();
    server.listen(join(folder, "socket"));
    await once(server, "listening");
    const socket = createConnection(join(folder, "socket"));
    const known = Object.entries(handlers).map(([name, handler]) => {
      const [options, run] = typeof handler === "function" ? [{}, handler] : handler;
      return [name, new Handler(name, options, run)] as const;
    });
    supervisor.child = new Child(socket, new Map(known), {
      finished: () => supervisor.#report("finished"),
      lost: (reason) => supervisor.#report(reason),
    });
    const [connection] = (await once(server, "connection")) as [Socket];
    supervisor.#serve(connection);
    supervisor.send({ t: "welcome", protocol: 1, max_frame: 1 << 20, slots: 16 });
    t.after(() => {
      socket.destroy();
      connection.destroy();
      server.close();
      rmSync(folder, { recursive: true });
    });
    return supervisor;
  }

  send(...messages: Message[]): void {
    this.#socket.write(Buffer.concat(messages.map(frame)));
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  hangUp(): void {
    this.#socket.end();
  }

  /** Sends a call. Returns its id. */
  begin(method: string, params: unknown = null, members: object = {}): number {
    const id = ++this.#lastId;
    this.send({ t: "call", id, method, params, deadline_ms: 30_000, ...members });
    return id;
  }

  /** Sends a job. Returns its id. */
  job(method: string, params: unknown = null, members: object = {}): number {
    const id = ++this.#lastId;
    this.send({ t: "job", id, job: `j${id}`, method, params, attempt: 1, left: 2, timeout_ms: 30_000, ...members });
    return id;
  }

  /** Runs a call and returns its end. */
  call(method: string, params: unknown = null, members: object = {}): Promise<Message> {
    return this.end(this.begin(method, params, members));
  }

  cancel(id: number, why = "cancelled"): void {
    this.send({ t: "cancel", id, why });
  }

  end(id: number): Promise<Message> {
    return this.wait((message) => ENDS.has(message.t) && message["id"] === id);
  }

  request(method: string): Promise<Message> {
    return this.wait((message) => message.t === "request" && message["method"] === method);
  }

  of(type: string): Message[] {
    return this.messages.filter((message) => message.t === type);
  }

  /** Waits for the first message that fits. */
  async wait(wanted: (message: Message) => boolean): Promise<Message> {
    await this.until(() => this.messages.some(wanted));
    return this.messages.find(wanted) as Message;
  }

  /** Waits until a condition holds; it is tested after each message and report. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#arrived.push(resolve));
  }

  #serve(connection: Socket): void {
    this.#socket = connection;
    const reader = new FrameReader();
    connection.on("error", () => undefined);
    connection.on("data", (chunk: Buffer) => reader.read(chunk).forEach((message) => this.#take(message)));
  }

  #take(message: Message): void {
    this.messages.push(message);
    const answer = message.t === "request" ? this.answers[String(message["method"])] : undefined;
    if (answer) {
      const value = answer(message["params"]);
      const reply = value instanceof Refusal ? { error: { ...value } } : { value };
      this.send({ t: "reply", id: message["id"], ...reply });
    }
    this.#wake();
  }

  #report(report: string): void {
    this.reports.push(report);
    this.#wake();
  }

  #wake(): void {
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const resolve of arrived) resolve();
  }
}
