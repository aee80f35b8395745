import assert from "node:assert/strict";
import { test } from "node:test";
import type { Subscription } from "../src/subscription.js";
import { bench, MemoryStorage, withLocks, type Bench, type FakeSocket } from "./fake.js";

/** Returns a page with its first socket open. */
async function opened(options = {}): Promise<Bench & { first: FakeSocket }> {
  const opening = bench(options);
  void opening.page.connect();
  const first = await opening.socket(1);
  first.register("new");
  return { ...opening, first };
}

/** Waits for `count` frames of a type from the client and returns them. */
async function frames(socket: FakeSocket, type: string, count: number): Promise<Record<string, unknown>[]> {
  for (let turn = 0; turn < 100_000 && socket.of(type).length < count; turn++) await turns(1);
  assert.equal(socket.of(type).length, count, `${count} frames ${type}`);
  return socket.of(type).map((frame) => ({ ...frame }));
}

/** Lets the handlers of settled promises run. */
async function turns(count: number): Promise<void> {
  while (count-- > 0) await new Promise((resolve) => setImmediate(resolve));
}

/** Grants the newest `subscribe`, as the server does. */
async function grant(socket: FakeSocket, seq: number, count = 1): Promise<void> {
  const id = (await frames(socket, "subscribe", count)).at(-1)?.["id"];
  socket.push({ seq, type: "result", id });
}

const error = (id: unknown, code: string, retryable = false): object => ({
  ...{ type: "error", id, code },
  ...{ message: "no", retryable },
});

/** Records the events of a subscription in order. */
function heard(subscription: Subscription): unknown[] {
  const events: unknown[] = [];
  subscription.on("message", ({ payload }) => events.push(payload));
  subscription.on("error", ({ code }) => events.push(code));
  return events;
}

test("a subscription gets the messages of its topic, and the page gets all", async () => {
  const { page, first } = await opened();
  const all: unknown[] = [];
  page.on("message", ({ payload, topic }) => all.push([payload, topic]));
  const room = page.subscribe("room.7", { token: async () => "jwt" });
  const events: unknown[] = [];
  room.on("message", ({ payload, from }) => events.push([payload, from]));
  const [{ id: _, ...frame } = {}] = await frames(first, "subscribe", 1);
  assert.deepEqual(frame, { type: "subscribe", topic: "room.7", token: "jwt" });
  const early = room.send(1);
  await turns(3);
  assert.deepEqual(first.of("send"), [], "a page sends to topics that it is subscribed to");
  await grant(first, 1);
  await room.ready;
  const [send] = await frames(first, "send", 1);
  assert.deepEqual([send?.["to"], send?.["payload"]], [{ topic: "room.7" }, 1]);
  first.push({ seq: 2, type: "result", id: send?.["id"], value: { reached: 1, held: 0 } });
  assert.deepEqual(await early, { reached: 1, held: 0 });
  first.push({ seq: 3, type: "message", payload: "a", topic: "room.7", from: "q|p01" });
  first.push({ seq: 4, type: "message", payload: "b" });
  assert.deepEqual(events, [["a", "q|p01"]]);
  assert.deepEqual(all, [["a", "room.7"], ["b", undefined]]);
  page.close();
});

test("subscriptions of one topic share one, and the last one that closes unsubscribes", async () => {
  const { page, first } = await opened();
  const rooms = [page.subscribe("a"), page.subscribe("a"), page.subscribe("b")] as const;
  const [one, two] = rooms.map(heard);
  await frames(first, "subscribe", 2);
  first.of("subscribe").forEach(({ id }, n) => first.push({ seq: n + 1, type: "result", id }));
  await Promise.all(rooms.map(({ ready }) => ready));
  await page.subscribe("a").close();
  await rooms[0].close();
  await assert.rejects(rooms[0].send(1), { code: "closed" });
  first.push({ seq: 3, type: "message", payload: 1, topic: "a" });
  assert.deepEqual([one, two], [[], [1]]);
  assert.deepEqual(first.of("unsubscribe"), []);
  const closing = rooms[1].close();
  const [unsubscribe] = await frames(first, "unsubscribe", 1);
  assert.equal(unsubscribe?.["topic"], "a");
  first.push({ seq: 4, type: "message", payload: 2, topic: "a" });
  first.push({ seq: 5, type: "result", id: unsubscribe?.["id"] });
  await closing;
  await rooms[1].close();
  await turns(3);
  assert.deepEqual([two, first.of("unsubscribe").length], [[1], 1]);
  page.subscribe("a");
  assert.equal((await frames(first, "subscribe", 3)).at(-1)?.["topic"], "a", "a topic can be subscribed to again");
  page.close();
});

test("a recovered page keeps its topics, any other subscribes again with a fresh token", async () => {
  const { page, first, socket } = await opened();
  let tokens = 0;
  const room = page.subscribe("a", { token: () => `t${++tokens}` });
  const events = heard(room);
  await grant(first, 1);
  await room.ready;
  first.end(1006);
  const kept = room.send("kept");
  const second = await socket(2);
  second.register("recovered", { seq: 1, received: 1 });
  assert.equal((await frames(second, "send", 1))[0]?.["payload"], "kept");
  assert.deepEqual(second.of("subscribe"), []);
  second.push({ seq: 2, type: "result", id: second.of("send")[0]?.["id"], value: { reached: 1, held: 0 } });
  await kept;
  second.end(1006);
  const late = room.send("late");
  const third = await socket(3);
  third.register("reset");
  assert.equal((await frames(third, "subscribe", 1))[0]?.["token"], "t2");
  await turns(3);
  assert.deepEqual(third.of("send"), [], "not before the page is subscribed again");
  await grant(third, 1);
  const [send] = await frames(third, "send", 1);
  third.push({ seq: 2, type: "result", id: send?.["id"], value: { reached: 1, held: 0 } });
  await late;
  third.end(4006);
  void page.connect();
  const fourth = await socket(4);
  fourth.register("new");
  assert.equal((await frames(fourth, "subscribe", 1))[0]?.["token"], "t3", "a subscription outlives its page");
  fourth.push({ seq: 1, type: "message", payload: "new", topic: "a" });
  assert.deepEqual(events, ["new"]);
  page.close();
});

test("a message waits for its topic over several sockets", async () => {
  const { page, first, socket } = await opened();
  const room = page.subscribe("a");
  await grant(first, 1);
  await room.ready;
  first.end(1006);
  const sent = room.send(1);
  (await socket(2)).end(1006);
  const third = await socket(3);
  third.register("recovered", { seq: 1 });
  const [send] = await frames(third, "send", 1);
  third.push({ seq: 2, type: "result", id: send?.["id"], value: { reached: 1, held: 0 } });
  assert.deepEqual(await sent, { reached: 1, held: 0 });
  page.close();
});

test("a refused subscription ends, whenever that is", async () => {
  const { page, first, socket } = await opened();
  const [one, two] = [page.subscribe("a"), page.subscribe("b")];
  const events = [one, two].map(heard);
  const [a, b] = await frames(first, "subscribe", 2);
  const waiting = assert.rejects(one.send(1), { code: "forbidden" });
  first.push({ seq: 1, ...error(a?.["id"], "forbidden") });
  first.push({ seq: 2, type: "result", id: b?.["id"] });
  await assert.rejects(one.ready, { code: "forbidden" });
  await waiting;
  await assert.rejects(one.send(1), { code: "forbidden" });
  await one.close();
  assert.deepEqual([events, first.of("unsubscribe")], [[["forbidden"], []], []]);
  first.end(1006);
  const second = await socket(2);
  second.register("reset");
  const again = await frames(second, "subscribe", 1);
  assert.equal(again[0]?.["topic"], "b");
  second.push({ seq: 1, ...error(again[0]?.["id"], "too_large") });
  assert.deepEqual(events, [["forbidden"], ["too_large"]]);
  await two.ready;
  await assert.rejects(two.send(1), { code: "too_large" });
  page.close();
});

test("what may go better later is tried again by itself", async () => {
  const { page, first } = await opened();
  let tokens = 0;
  const room = page.subscribe("a", {
    token: () => {
      if (++tokens === 1) throw new Error("offline");
      return `t${tokens}`;
    },
  });
  const events = heard(room);
  const [frame] = await frames(first, "subscribe", 1);
  first.push({ seq: 1, ...error(frame?.["id"], "unavailable", true) });
  assert.deepEqual(events, ["unauthenticated", "unavailable"]);
  assert.equal((await frames(first, "subscribe", 2)).at(-1)?.["token"], "t3");
  await grant(first, 2, 2);
  await room.ready;
  page.close();
});

test("a token that comes late is for the socket that it was asked for", async () => {
  const { page, first, socket } = await opened();
  const give: ((token: string) => void)[] = [];
  const token = (): Promise<string> => new Promise((resolve) => give.push(resolve));
  const room = page.subscribe("a", { token });
  const gone = page.subscribe("b", { token });
  const other = page.subscribe("c", { token });
  void gone.close();
  await assert.rejects(gone.ready, { code: "closed" });
  first.end(1006);
  give[2]?.("t2");
  await turns(3);
  const second = await socket(2);
  second.register("reset");
  assert.equal(give.length, 5);
  give.forEach((resolve, n) => resolve(`t${n}`));
  const asked = await frames(second, "subscribe", 2);
  assert.deepEqual(asked.map(({ topic, token }) => [topic, token]), [["a", "t3"], ["c", "t4"]]);
  second.end(1006);
  const third = await socket(3);
  third.register("recovered", { received: 0 });
  assert.deepEqual(await frames(third, "subscribe", 2), asked, "the server had not read them");
  asked.forEach(({ id }, n) => third.push({ seq: n + 1, type: "result", id }));
  await Promise.all([room.ready, other.ready]);
  page.close();
});

test("a page that closes lets go of whoever sends and closes", async () => {
  const { page, first } = await opened();
  const [one, two] = [page.subscribe("a"), page.subscribe("b")];
  await frames(first, "subscribe", 2);
  const sending = assert.rejects(one.send(1), { code: "closed" });
  const closing = two.close();
  page.close();
  await sending;
  await closing;
  await one.close();
});

test("a reloaded document leaves the topics and watches of the one before it", async () => {
  const restore = withLocks();
  try {
    const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
    const { page: before } = await opened(storages);
    const { page, socket } = bench(storages);
    const all: unknown[] = [];
    page.on("message", ({ payload }) => all.push(payload));
    void page.connect();
    const again = await socket(1);
    again.register("recovered");
    assert.deepEqual(again.of("hello")[0]?.["watch"], [], "it watches nothing yet");
    [1, 2].forEach((seq) => again.push({ seq, type: "message", payload: seq, topic: "old" }));
    assert.deepEqual([all, again.of("unsubscribe").map(({ topic }) => topic)], [[1, 2], ["old"]]);
    page.close();
    before.close();
  } finally {
    restore();
  }
});
