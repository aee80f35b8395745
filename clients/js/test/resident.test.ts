import assert from "node:assert/strict";
import { test } from "node:test";
import { PagewireError } from "../src/error.js";
import type { PagewireOptions, ResidentNews, ServerFrame } from "../src/types.js";
import { bench, type ClientFrame } from "./fake.js";

/** Returns the `hello` of a page with these options. */
async function hello(options: PagewireOptions): Promise<ClientFrame | undefined> {
  const { page, socket } = bench(options);
  void page.connect();
  const first = await socket(1);
  first.register("new");
  page.close();
  return first.of("hello")[0];
}

test("hello names the class of a resident page, and nothing for another page", async () => {
  assert.deepEqual((await hello({ resident: "Counter" }))?.["resident"], { class: "Counter" });
  const named = { class: "Counter", pool: "site" };
  assert.deepEqual((await hello({ resident: named }))?.["resident"], named);
  assert.equal("resident" in ((await hello({})) ?? {}), false);
});

test("every hello names the class, so that a page that cannot be resumed gets an object again", async () => {
  const { page, socket } = bench({ resident: "Counter" });
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.end(1006);
  const second = await socket(2);
  second.register("reset", { token: "t2" });
  assert.deepEqual(second.of("hello")[0]?.["resident"], { class: "Counter" });
  page.close();
});

test("what becomes of the object is an event in the sequence of the page", async () => {
  const { page, socket } = bench({ resident: "Counter" });
  const news: ResidentNews[] = [];
  const others: ServerFrame[] = [];
  page.on("resident", ({ class: name, state, why }) => news.push({ class: name, state, ...(why && { why }) }));
  page.on("frame", (frame) => others.push(frame));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.push({ seq: 1, type: "resident", class: "Counter", state: "open" });
  first.push({ seq: 2, type: "resident", class: "Counter", state: "rebuilt", why: "lost" });
  first.push({ seq: 2, type: "resident", class: "Counter", state: "rebuilt", why: "lost" });
  assert.deepEqual(news, [
    { class: "Counter", state: "open" },
    { class: "Counter", state: "rebuilt", why: "lost" },
  ]);
  assert.deepEqual(others, []);
  page.close();
});

test("a method of the object is called under the name of its class", async () => {
  const { page, socket } = bench({ resident: "Counter" });
  const added = page.object.call<number>("add", { by: 2 }, { timeout_ms: 5_000 });
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const [frame] = first.of("call");
  assert.deepEqual([frame?.["method"], frame?.["params"], frame?.["timeout_ms"]], ["Counter.add", { by: 2 }, 5_000]);
  first.push({ seq: 1, type: "result", id: frame?.id, value: 2 });
  assert.equal(await added, 2);
  page.close();
});

test("calls of an object go to the pool of its class, unless they name another one", async () => {
  const { page, socket } = bench({ resident: { class: "Counter", pool: "site" } });
  const calls = [page.object.call("add"), page.object.call("add", null, { pool: "other" })];
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const frames = first.of("call");
  assert.deepEqual(frames.map((frame) => frame["pool"]), ["site", "other"]);
  frames.forEach(({ id }, n) => first.push({ seq: n + 1, type: "result", id, value: n }));
  assert.deepEqual(await Promise.all(calls), [0, 1]);
  page.close();
});

test("a page without a class refuses calls of an object that it does not have", async () => {
  const { page } = bench();
  const refused = (error: unknown): boolean => error instanceof PagewireError && error.code === "malformed";
  await assert.rejects(page.object.call("add"), refused);
});
