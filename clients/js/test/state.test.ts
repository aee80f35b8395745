import assert from "node:assert/strict";
import { test } from "node:test";
import type { Level, View, ViewEvents } from "../src/state.js";
import { bench, MemoryStorage, withLocks, type Bench, type ClientFrame, type FakeSocket } from "./fake.js";

/** Returns a page with its first socket open. */
async function opened(options = {}): Promise<Bench & { first: FakeSocket }> {
  const opening = bench(options);
  void opening.page.connect();
  const first = await opening.socket(1);
  first.register("new");
  return { ...opening, first };
}

const paths = (socket: FakeSocket, type: string): unknown[] => socket.of(type).map(({ path }) => path);
const named = (socket: FakeSocket): unknown => socket.of("hello")[0]?.["watch"];
const error = (id: unknown, code: string): object => ({ type: "error", id, code, message: "no", retryable: false });

/** Records the events of a view in order. */
function heard(view: View): (ViewEvents["change"] | string)[] {
  const events: (ViewEvents["change"] | string)[] = [];
  view.on("change", (event) => events.push(event));
  view.on("removed", () => events.push("removed"));
  view.on("error", ({ code }) => events.push(code));
  return events;
}

test("a view shows a snapshot and then every change, and says who made it", async () => {
  const { page, first } = await opened();
  const form = page.watch<{ name?: string; age?: number }>("session", "wizard.form");
  const events = heard(form);
  assert.deepEqual(first.of("watch").map(({ id: _, ...frame }) => frame), [
    { type: "watch", level: "session", path: "wizard.form" },
  ]);
  const at = { type: "data", level: "session", path: "wizard.form" };
  first.push({ seq: 1, ...at, revision: 7, snapshot: { name: "Ada" } });
  await form.ready;
  const before = form.value;
  assert.deepEqual([before, form.revision], [{ name: "Ada" }, 7]);
  const changes = [
    { path: "wizard.form.age", value: 36, from: "p|p01" },
    { path: "wizard.form.name", delete: true, from: "p|p09" },
  ];
  first.push({ seq: 2, ...at, base: 7, revision: 9, changes });
  assert.deepEqual([form.value, form.revision, before], [{ age: 36 }, 9, { name: "Ada" }]);
  first.push({ seq: 3, ...at, base: 12, revision: 13, changes: [{ path: "wizard.form", value: 1, from: "q|p01" }] });
  first.push({ seq: 4, ...at, base: 13, revision: 14, changes: [{ path: "wizard.form", delete: true }] });
  const [snapshot, own, others, program] = events;
  assert.deepEqual(snapshot, { changes: [{ path: "", value: { name: "Ada" } }], from: undefined, own: false });
  const below = [{ path: "age", value: 36, from: "p|p01" }, { path: "name", delete: true, from: "p|p09" }];
  assert.deepEqual(own, { changes: below, from: "p|p09", own: true }, "wherever this page was by then");
  assert.deepEqual(others, { changes: [{ path: "", value: 1, from: "q|p01" }], from: "q|p01", own: false });
  assert.deepEqual(program, { changes: [{ path: "", delete: true }], from: undefined, own: false });
  assert.equal(form.value, undefined);
  page.close();
});

test("a view of a whole tree follows its life", async () => {
  const { page, first } = await opened();
  const tree = page.watch("user");
  const events = heard(tree);
  const all = { type: "data", level: "user" };
  first.push({ seq: 1, ...all, revision: 0, missing: true });
  await tree.ready;
  assert.deepEqual([tree.value, tree.revision, events], [undefined, 0, []]);
  first.push({ seq: 2, ...all, base: 0, revision: 3, changes: [{ path: "a\\.b.c", value: null }] });
  assert.deepEqual(tree.value, { "a.b": { c: null } });
  first.push({ seq: 3, ...all, base: 3, revision: 4, changes: [] });
  assert.deepEqual([tree.revision, events.length], [4, 1], "another revision is no other value");
  first.push({ seq: 4, ...all, base: 4, revision: 5, changes: [{ path: "", delete: true }] });
  assert.deepEqual(tree.value, {}, "an empty tree is one");
  first.push({ seq: 5, ...all, removed: true });
  assert.deepEqual([tree.value, tree.revision, events.at(-1)], [undefined, 0, "removed"]);
  first.push({ seq: 6, ...all, base: 0, revision: 8, changes: [{ path: "a", value: 1 }] });
  assert.deepEqual(tree.value, { a: 1 });
  page.close();
});

test("views of one path share what the server tells, views of others do not", async () => {
  const { page, first } = await opened();
  const one = page.watch("session", "a");
  const inner = page.watch("session", "a.b");
  first.push({ seq: 1, type: "data", level: "session", path: "a", revision: 1, snapshot: { b: 1 } });
  const two = page.watch("session", "\\a");
  await two.ready;
  assert.deepEqual([paths(first, "watch"), two.path, two.value], [["a", "a.b"], "a", { b: 1 }]);
  assert.deepEqual([inner.value, inner.revision], [undefined, 0]);
  one.close();
  one.close();
  const changes = [{ path: "a.b", value: 2 }];
  first.push({ seq: 2, type: "data", level: "session", path: "a", base: 1, revision: 2, changes });
  assert.deepEqual([one.value, two.value, inner.value], [{ b: 1 }, { b: 2 }, undefined]);
  assert.deepEqual(paths(first, "unwatch"), []);
  const three = page.watch("session", "a");
  two.on("change", () => three.close());
  first.push({ seq: 3, type: "data", level: "session", path: "a", revision: 3, snapshot: 0 });
  assert.deepEqual([two.value, three.value], [0, { b: 2 }], "closed by the listener of another one");
  two.close();
  assert.deepEqual(paths(first, "unwatch"), ["a"]);
  page.close();
});

test("a view that comes to a watch which is just ending waits for its own snapshot", async () => {
  const { page, first } = await opened();
  page.watch("page", "a").close();
  const again = page.watch("page", "a");
  const events = heard(again);
  const at = { type: "data", level: "page", path: "a" };
  first.push({ seq: 1, ...at, base: 1, revision: 2, changes: [{ path: "a.b", value: 1 }] });
  first.push({ seq: 2, ...at, removed: true });
  assert.deepEqual([again.value, events], [undefined, []]);
  first.push({ seq: 3, ...at, revision: 2, snapshot: { b: 1, c: 1 } });
  await again.ready;
  assert.deepEqual([again.value, events.length], [{ b: 1, c: 1 }, 1]);
  page.close();
});

test("a page that was recovered goes on, one that was reset names what it shows", async () => {
  const { page, first, socket } = await opened();
  const view = page.watch("session", "a");
  const events = heard(view);
  const [{ id } = {} as ClientFrame] = first.of("watch");
  first.push({ seq: 1, type: "result", id });
  first.push({ seq: 2, type: "data", level: "session", path: "a", revision: 1, snapshot: [1] });
  const shown = view.value;
  first.end(1006);
  const second = await socket(2);
  second.register("recovered", { seq: 2, received: 1 });
  const name = { level: "session", path: "a" };
  assert.deepEqual([named(second), paths(second, "watch")], [[name], []]);
  second.end(1006);
  const third = await socket(3);
  third.open();
  page.watch("session", "b");
  third.register("reset");
  assert.deepEqual([named(third), paths(third, "watch")], [[name], ["b"]], "what hello did not name is asked for");
  third.push({ seq: 1, type: "data", ...name, revision: 5, snapshot: [1] });
  assert.deepEqual([view.revision, events.length], [5, 1]);
  assert.equal(view.value, shown, "what was told again is the same object");
  third.push({ seq: 2, type: "data", ...name, revision: 6, missing: true });
  assert.deepEqual([view.value, events.length], [undefined, 2]);
  page.close();
});

test("what does not fit into hello is asked for afterwards, when the page was recovered too", async () => {
  const { page, first, socket } = await opened();
  const long = Array.from({ length: 32 }, () => "k".repeat(200)).join(".");
  ["session", "page"].forEach((level) => page.watch(level as Level, long));
  first.end(1006);
  const second = await socket(2);
  second.register("reset");
  assert.deepEqual(named(second), [{ level: "session", path: long }]);
  assert.deepEqual(second.of("watch").map(({ level }) => level), ["page"]);
  second.end(1006);
  const third = await socket(3);
  third.register("recovered", { received: 1 });
  assert.deepEqual(third.of("watch").map(({ level }) => level), ["page"], "the server has dropped it");
  page.close();
});

test("a view outlives its page: the next one watches the same", async () => {
  const { page, first, socket } = await opened();
  const view = page.watch("session", "a");
  first.end(4006);
  assert.equal(page.state, "closed");
  const early = page.watch("session", "b");
  void page.connect();
  const second = await socket(2);
  second.register("new");
  assert.deepEqual([named(second), paths(second, "watch")], [undefined, ["a", "b"]]);
  second.push({ seq: 1, type: "data", level: "session", path: "a", revision: 1, snapshot: 1 });
  await view.ready;
  early.close();
  assert.deepEqual(paths(second, "unwatch"), ["b"]);
  page.close();
});

test("a page that was let go and is resumed later watches what it asked for in vain", async () => {
  const restore = withLocks();
  try {
    const { page, first, socket } = await opened({ local_storage: null, session_storage: new MemoryStorage() });
    page.watch("session", "a");
    assert.deepEqual(paths(first, "watch"), ["a"]);
    first.end(4004);
    void page.connect();
    const second = await socket(2);
    second.register("recovered");
    assert.deepEqual([named(second), paths(second, "watch")], [[{ level: "session", path: "a" }], ["a"]]);
    page.close();
  } finally {
    restore();
  }
});

test("a refused watch ends its views and no others", async () => {
  const { page, first, socket } = await opened();
  const views = [page.watch("user", "a"), page.watch("user", "a"), page.watch("session", "a")];
  const events = views.map(heard);
  first.push({ seq: 1, ...error(first.of("watch")[0]?.id, "forbidden") });
  await assert.rejects(views[0]?.ready ?? Promise.resolve(), { code: "forbidden" });
  assert.deepEqual(events, [["forbidden"], ["forbidden"], []]);
  views[0]?.close();
  assert.deepEqual(paths(first, "unwatch"), []);
  first.end(1006);
  const second = await socket(2);
  second.register("reset");
  assert.deepEqual(named(second), [{ level: "session", path: "a" }]);
  assert.throws(() => page.watch("session", "a..b"), { code: "malformed" });
  page.close();
});

test("the server is told once of what nobody here watches", async () => {
  const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
  const { page, first, socket } = await opened(storages);
  const old = { type: "data", level: "session", path: "old", base: 1, revision: 2, changes: [] };
  first.push({ seq: 1, ...old });
  first.push({ seq: 2, ...old });
  assert.deepEqual(paths(first, "unwatch"), ["old"], "it was on its way when the document before this one left");
  first.push({ seq: 3, type: "result", id: first.of("unwatch")[0]?.id });
  const view = page.watch("session", "a");
  first.end(1006);
  view.close();
  const second = await socket(2);
  second.register("recovered", { seq: 3, received: 2 });
  assert.deepEqual(paths(second, "unwatch"), []);
  second.push({ seq: 4, ...old, path: "a" });
  assert.deepEqual(paths(second, "unwatch"), ["a"], "it was closed without a socket");
  page.close();
});

test("views are watched however many requests wait", async () => {
  const { page, first } = await opened({ max_pending: 1 });
  const call = assert.rejects(page.call("a"), { code: "uncertain" });
  page.watch("session", "a");
  assert.deepEqual(paths(first, "watch"), ["a"]);
  page.close();
  await call;
});

test("trees are read and written by a page and by its views", async () => {
  const { page, first } = await opened();
  const form = page.watch("connection", "a\\.b");
  const asked = [
    page.set("page", "a", null),
    form.set("x.#0", 1, { if_revision: 0 }),
    form.delete("y"),
    form.patch([{ path: "", value: {} }, { path: "z", delete: true }]),
    page.patch("user", [], { if_revision: 4 }),
    page.get("user", "a.#1"),
    page.get("session"),
    form.set("x", 1),
  ];
  const frames = first.frames.filter(({ type }) => /_data|patch/.test(type));
  const patch = { type: "patch", level: "connection" };
  assert.deepEqual(frames.map(({ id: _, ...frame }) => frame), [
    { type: "set_page_data", path: "a", value: null },
    { type: "set_connection_data", path: "a\\.b.x.#0", value: 1, if_revision: 0 },
    { ...patch, changes: [{ path: "a\\.b.y", delete: true }] },
    { ...patch, changes: [{ path: "a\\.b", value: {} }, { path: "a\\.b.z", delete: true }] },
    { type: "patch", level: "user", changes: [], if_revision: 4 },
    { type: "get_data", level: "user", path: "a.#1" },
    { type: "get_data", level: "session", path: "" },
    { type: "set_connection_data", path: "a\\.b.x", value: 1 },
  ]);
  const values = [1, 2, 3, 4, 5].map((revision) => ({ revision }));
  const answers = [...values, { revision: 6, value: null }, { revision: 0 }];
  answers.forEach((value, n) => first.push({ seq: n + 1, type: "result", id: frames[n]?.id, value }));
  first.push({ seq: 8, ...error(frames[7]?.id, "conflict") });
  const refused = assert.rejects(asked.pop() ?? Promise.resolve(), { code: "conflict" });
  assert.deepEqual(await Promise.all(asked), [
    ...[1, 2, 3, 4, 5],
    { revision: 6, value: null },
    { revision: 0, value: undefined },
  ]);
  await refused;
  assert.equal(form.value, undefined, "a view shows what the server tells of, not what was asked for");
  await assert.rejects(form.set("a\\", 1), { code: "malformed" });
  page.close();
});
