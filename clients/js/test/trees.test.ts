// State trees over a network that loses sockets and nodes, with other writers: the values that views show in spite of
// that.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pagewire } from "../src/pagewire.js";
import type { Level, View } from "../src/state.js";
import { bench } from "./fake.js";
import { below, PATHS, pick, Server } from "./model.js";

const VALUES = [0, 1, "text", null, [], [{ a: 1 }], {}, { a: 1 }, { b: { a: 1 }, a: 2 }, { "x.y": 0, b: [] }];
const LEVELS: Level[] = ["session", "page"];
const OUTCOMES = ["recovered", "recovered", "reset", "new"] as const;

const text = (value: unknown): string => JSON.stringify(value) ?? "nothing";
const edit = (): { path: string; value: unknown } => ({ path: pick(PATHS), value: pick([undefined, ...VALUES]) });

/** A document that records every value that it is shown. */
class Reader {
  readonly views: View[] = [];
  readonly writes: Promise<unknown>[] = [];
  /** Every value that was shown, and its JSON at that time. */
  readonly #shown: [unknown, string][] = [];
  readonly #wrong: string[] = [];
  readonly #page: Pagewire;
  readonly #server: Server;

  constructor(page: Pagewire, server: Server) {
    this.#page = page;
    this.#server = server;
  }

  open(): void {
    const view = this.#page.watch(pick(LEVELS), pick(PATHS));
    let revision = 0;
    view.on("removed", () => (revision = 0));
    view.on("change", ({ changes }) => {
      const whole = changes.some(({ path }) => path === "");
      if (!whole && view.revision <= revision) this.#wrong.push(`back from ${revision} to ${view.revision}`);
      revision = view.revision;
      this.#shown.push([view.value, text(view.value)]);
      const [shown, stood] = [text(view.value), text(this.#stood(view))];
      if (shown !== stood) this.#wrong.push(`${view.path} at ${revision}: ${shown}, not ${stood}`);
    });
    this.views.push(view);
  }

  close(): void {
    const [view] = this.views.splice(below(this.views.length), 1);
    view?.close();
  }

  write(): void {
    this.writes.push(this.#page.set("session", pick(PATHS.slice(1)), pick(VALUES)).catch(() => undefined));
  }

  /** Checks after all frames have arrived: views show the current values, and values shown before are unmodified. */
  async check(): Promise<void> {
    assert.deepEqual(this.#wrong, []);
    for (const view of this.views) {
      await view.ready;
      assert.equal(text(view.value), text(this.#server.trees[view.level]?.at(view.path)), view.path);
    }
    for (const [value, then] of this.#shown) assert.equal(text(value), then, "what was shown is not changed");
  }

  #stood({ level, path, revision }: View): unknown {
    return this.#server.trees[level]?.at(path, revision);
  }
}

test("over random losses every view shows only what stood, and in the end what stands", async () => {
  for (let run = 0; run < 100; run++) {
    const { page, socket } = bench();
    void page.connect();
    const server = new Server(await socket(1));
    const reader = new Reader(page, server);
    const acts = [
      () => reader.open(),
      () => reader.close(),
      () => reader.write(),
      () => server.write(pick(LEVELS), Array.from({ length: 1 + below(3) }, edit)),
      () => server.write(pick(LEVELS), [edit()]),
      () => below(6) === 0 && server.remove(pick(LEVELS)),
      () => server.process(1 + below(4)),
      () => server.deliver(1 + below(6)),
    ];
    for (let sockets = 1; sockets < 6; sockets++) {
      for (let step = below(60); step > 0; step--) pick(acts)();
      const outcome = pick(OUTCOMES);
      (await socket(sockets)).end(outcome === "new" ? 4006 : 1006);
      while (below(2)) pick(acts.slice(0, 6))();
      if (outcome === "new") void page.connect();
      server.resume(await socket(sockets + 1), outcome);
    }
    // a delivered frame can cause more frames of the page
    for (let round = 0; round < 3; round++) {
      server.process(Infinity);
      server.deliver(Infinity);
    }
    await reader.check();
    page.close();
    await Promise.all(reader.writes);
  }
});
