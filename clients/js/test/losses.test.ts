// A server that loses sockets, frames and whole nodes, and the ends of jobs in spite of that.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PagewireError } from "../src/error.js";
import { bench, type FakeSocket } from "./fake.js";

const below = (limit: number): number => Math.floor(Math.random() * limit);

/** The server's side of one page, as the protocol describes it. */
class Server {
  /** Processed, and not durable yet. */
  #submitting: string[] = [];
  /** Durable jobs that have not ended; `over` has those that have. */
  #standing = new Set<string>();
  readonly over = new Set<string>();
  #frames: object[] = [];
  #delivered = 0;
  #read = 0;
  #received = 0;

  #socket: FakeSocket;

  constructor(socket: FakeSocket) {
    this.#socket = socket;
    socket.register("new");
  }

  /** Processes some of the frames that have arrived. */
  process(count: number): void {
    const jobs = this.#socket.of("job").slice(this.#read, this.#read + count);
    this.#read += jobs.length;
    this.#received += jobs.length;
    for (const { id = "" } of jobs) {
      const known = this.#submitting.includes(id) || this.#standing.has(id) || this.over.has(id);
      assert.ok(!known, `${id} was submitted twice`);
      this.#submitting.push(id);
    }
  }

  accept(count: number): void {
    for (const id of this.#submitting.splice(0, count)) {
      this.#standing.add(id);
      this.#frames.push({ type: "accepted", id, job: `job ${id}` });
    }
  }

  finish(count: number): void {
    for (const id of [...this.#standing].slice(0, count)) {
      this.#standing.delete(id);
      this.over.add(id);
      this.#frames.push(this.#end(id));
    }
  }

  deliver(count: number): void {
    for (const frame of this.#frames.slice(this.#delivered, this.#delivered + count)) {
      this.#socket.push({ seq: ++this.#delivered, ...frame });
    }
  }

  /** Resumes the page, at this node or at another one that has only the durable jobs. */
  resume(socket: FakeSocket, recovered: "recovered" | "reset"): void {
    this.#socket = socket;
    this.#read = 0;
    socket.open();
    const [hello] = socket.of("hello");
    if (recovered === "reset") {
      // the node was killed during the write
      this.accept(below(3));
      [this.#frames, this.#submitting, this.#delivered, this.#received] = [[], [], 0, 0];
    } else {
      this.#delivered = (hello?.["resume"] as { seq: number }).seq;
    }
    for (const id of (hello?.["pending"] ?? []) as string[]) this.#answer(id, recovered);
    socket.register(recovered, { seq: this.#delivered, received: this.#received });
  }

  #answer(id: string, recovered: "recovered" | "reset"): void {
    const lost = recovered === "reset";
    if (this.over.has(id) && lost) this.#frames.push(this.#end(id));
    else if (this.#standing.has(id) && lost) this.#frames.push({ type: "accepted", id, job: `job ${id}` });
    else if (!this.#standing.has(id) && !this.over.has(id)) {
      this.#frames.push({ type: "error", id, code: "uncertain", message: "unknown", retryable: false });
    }
  }

  #end(id: string): object {
    return { type: "result", id, job: `job ${id}`, state: "succeeded", value: id };
  }
}

const ACTS = ["process", "accept", "finish", "deliver"] as const;

test("over random losses every job ends once: with its value if it was durable, else as uncertain", async () => {
  for (let run = 0; run < 150; run++) {
    const { page, socket } = bench();
    const ends: Promise<unknown>[] = [];
    const submit = (): void => void ends.push(page.job("work").result.catch((error: unknown) => error));
    void page.connect();
    const server = new Server(await socket(1));
    for (let sockets = 1; sockets < 6; sockets++) {
      for (let step = below(12); step > 0; step--) {
        const act = ACTS[below(ACTS.length + 1)];
        if (act) server[act](1 + below(3));
        else submit();
      }
      (await socket(sockets)).end(1006);
      if (below(2)) submit();
      server.resume(await socket(sockets + 1), below(2) ? "recovered" : "reset");
    }
    for (const act of ACTS) server[act](Infinity);
    const settled = await Promise.all(ends);
    const values = settled.filter((end) => typeof end === "string");
    assert.deepEqual(values.sort(), [...server.over].sort(), "what was durable ended with its value");
    const lost = settled.filter((end) => typeof end !== "string");
    assert.ok(lost.every((end) => end instanceof PagewireError && end.code === "uncertain"));
    page.close();
  }
});
