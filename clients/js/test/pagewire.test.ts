import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { PagewireError } from "../src/error.js";
import type { State, WebSocketConstructor } from "../src/types.js";
import { bench, fail, MemoryStorage } from "./fake.js";

/** Lets promises settle; needs no clock. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const code = (expected: string) => (error: unknown) => error instanceof PagewireError && error.code === expected;

test("a first page says hello and is registered", async () => {
  const { page, socket } = bench({ token: "jwt" });
  const states: State[] = [];
  page.on("state", ({ state }) => states.push(state));
  const registered = page.connect();
  const first = await socket(1);
  first.register("new");
  assert.equal((await registered).page_id, "p|p01");
  assert.deepEqual(first.frames[0], { type: "hello", token: "jwt", features: ["move"] });
  assert.deepEqual(states, ["connecting", "open"]);
  page.close();
});

test("a lost socket is resumed with token and seq, and old frames are dropped", async () => {
  const { page, socket } = bench();
  const payloads: unknown[] = [];
  page.on("message", ({ payload }) => payloads.push(payload));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.push({ seq: 1, type: "message", payload: "a" });
  first.push({ seq: 2, type: "message", payload: "b" });
  first.end(1006);
  assert.equal(page.state, "waiting");
  const second = await socket(2);
  assert.equal(page.state, "recovering");
  second.register("recovered", { token: "t2", seq: 2 });
  assert.deepEqual(second.of("hello")[0]?.["resume"], { token: "t1", seq: 2 });
  second.push({ seq: 2, type: "message", payload: "b" });
  second.push({ seq: 3, type: "message", payload: "c" });
  assert.deepEqual(payloads, ["a", "b", "c"]);
  page.close();
});

test("requests wait for the socket and get their own answers", async () => {
  const { page, socket } = bench();
  const sum = page.call("sum", [1, 2], { exec_mode: "inline" });
  const delivery = page.send({ user: "a.b" }, "hi");
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const [call] = first.of("call");
  const [send] = first.of("send");
  assert.deepEqual([call?.["method"], call?.["params"], call?.["exec_mode"]], ["sum", [1, 2], "inline"]);
  first.push({ seq: 1, type: "error", id: send?.id, code: "forbidden", message: "no", retryable: false });
  first.push({ seq: 2, type: "result", id: call?.id, value: 3 });
  assert.equal(await sum, 3);
  await assert.rejects(delivery, code("forbidden"));
  page.close();
});

test("a page chooses a lane and gets the one that follows", async () => {
  const { page, socket } = bench();
  const chosen = page.rollout("default", "canary");
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const [frame] = first.of("rollout");
  assert.deepEqual([frame?.["pool"], frame?.["lane"]], ["default", "canary"]);
  first.push({ seq: 1, type: "result", id: frame?.id, value: { lane: "canary", reason: "choice" } });
  assert.deepEqual(await chosen, { lane: "canary", reason: "choice" });
  page.close();
});

test("what the server has not processed is sent again, in order", async () => {
  const { page, socket } = bench();
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const calls = ["a", "b", "c"].map((method) => page.call(method));
  assert.equal(first.of("call").length, 3);
  first.end(1006);
  const later = page.call("d");
  const second = await socket(2);
  second.register("recovered", { received: 1 });
  assert.deepEqual(second.of("call").map((call) => call["method"]), ["b", "c", "d"]);
  const ids = [...first.of("call").slice(0, 1), ...second.of("call")].map((call) => call.id);
  ids.forEach((id, n) => second.push({ seq: n + 1, type: "result", id, value: n }));
  assert.deepEqual(await Promise.all([...calls, later]), [0, 1, 2, 3]);
  page.close();
});

test("after a reset, requests without an answer are uncertain and those never sent go out", async () => {
  const { page, socket } = bench();
  let resets = 0;
  page.on("reset", () => (resets += 1));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const lost = page.call("a");
  first.end(1006);
  const waiting = page.call("b");
  const second = await socket(2);
  second.register("reset");
  await assert.rejects(lost, code("uncertain"));
  assert.deepEqual(second.of("call").map((call) => call["method"]), ["b"]);
  second.push({ seq: 1, type: "result", id: second.of("call")[0]?.id, value: "done" });
  assert.equal(await waiting, "done");
  assert.equal(resets, 1);
  page.close();
});

test("a missing frame is never hidden: the socket is given up and the page resumed", async () => {
  const { page, socket } = bench();
  const payloads: unknown[] = [];
  page.on("message", ({ payload }) => payloads.push(payload));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.push({ seq: 1, type: "message", payload: 1 });
  first.push({ seq: 3, type: "message", payload: 3 });
  const second = await socket(2);
  second.register("recovered", { seq: 1 });
  assert.deepEqual(second.of("hello")[0]?.["resume"], { token: "t1", seq: 1 });
  assert.deepEqual(payloads, [1]);
  page.close();
});

test("every 32 frames are acknowledged at once, fewer after five seconds", async () => {
  const { page, socket } = bench();
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    void page.connect();
    const first = await socket(1);
    first.register("new");
    for (let seq = 1; seq <= 33; seq++) first.push({ seq, type: "message", payload: seq });
    assert.deepEqual(first.of("ack").map((ack) => ack["seq"]), [32]);
    mock.timers.tick(5_000);
    assert.deepEqual(first.of("ack").map((ack) => ack["seq"]), [32, 33]);
  } finally {
    page.close();
    mock.timers.reset();
  }
});

test("where no Web Lock can tell a reload from a duplicated tab, a new page opens in the same session", async () => {
  const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
  const before = bench(storages);
  void before.page.connect();
  (await before.socket(1)).register("new", { token: "t1" });
  const after = bench(storages);
  void after.page.connect();
  const { frames } = await after.socket(1).then((socket) => (socket.register("new"), socket));
  assert.deepEqual(frames[0], {
    type: "hello",
    connection_id: "c|p01",
    session_id: "s|p01",
    resume: { token: "t1", seq: 0 },
    features: ["move"],
  });
  before.page.close();
  after.page.close();
});

test("replaced means closed, and only an explicit connect opens a new page", async () => {
  const { page, sockets, socket } = bench();
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const call = page.call("a");
  first.end(4006, '{"reason":"held by another socket"}');
  assert.equal(page.state, "closed");
  await assert.rejects(call, code("uncertain"));
  await settled();
  assert.equal(sockets.length, 1);
  void page.connect();
  const second = await socket(2);
  second.register("new", { page_id: "q|p01" });
  assert.equal("page_id" in (second.of("hello")[0] ?? {}), false);
  page.close();
});

test("a refused connection rejects with the reason", async () => {
  const { page, socket } = bench();
  const refused = assert.rejects(page.connect(), code("forbidden"));
  (await socket(1)).end(4003, '{"reason":"not for you"}');
  await refused;
});

test("a refused origin rejects at once, names the key to set, and forgets nothing", async () => {
  const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
  const before = bench(storages);
  void before.page.connect();
  (await before.socket(1)).register("new");
  const remembered = [...storages.local_storage.items];
  const { page, sockets, socket } = bench(storages);
  const refused = assert.rejects(page.connect(), (error: PagewireError) => {
    return error.code === "origin" && !error.retryable && error.message.includes("websocket.origins");
  });
  (await socket(1)).end(4003, '{"reason":"origin"}');
  await refused;
  assert.deepEqual([page.state, sockets.length], ["closed", 1]);
  assert.deepEqual([...storages.local_storage.items], remembered);
  before.page.close();
});

test("ids that the server refuses are forgotten, and a new page opens from nothing", async () => {
  const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
  const { page, socket } = bench(storages);
  let resets = 0;
  page.on("reset", () => (resets += 1));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const lost = assert.rejects(page.call("a"), code("uncertain"));
  first.end(1006);
  (await socket(2)).end(4003, '{"reason":"resuming a page needs its token"}');
  const third = await socket(3);
  third.register("new", { page_id: "q|p01" });
  assert.deepEqual(third.frames[0], { type: "hello", features: ["move"] });
  await lost;
  assert.equal(resets, 1);
  page.close();
});

test("a provider is asked again for an expired token, and only once for one that is refused", async () => {
  let asked = 0;
  const { page, socket } = bench({ token: () => `jwt${++asked}` });
  const ended = page.connect();
  const first = await socket(1);
  first.register("new");
  first.end(4504);
  const second = await socket(2);
  second.register("recovered");
  assert.equal(second.of("hello")[0]?.["token"], "jwt2");
  second.end(4001);
  (await socket(3)).end(4001);
  assert.equal(page.state, "closed");
  assert.equal(asked, 3);
  await ended;
});

test("a server that advises a delay is not asked earlier", async () => {
  const { page, socket } = bench();
  void page.connect();
  (await socket(1)).register("new");
  let wait = 0;
  page.on("state", ({ retry_at }) => (wait = (retry_at ?? 0) - Date.now()));
  (await socket(1)).end(4500, '{"retry_after_ms":60000}');
  assert.ok(wait > 59_000 && wait <= 60_001, String(wait));
  page.close();
});

test("a silent server is asked for a sign of life, then given up", async () => {
  const { page, socket } = bench();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
  try {
    void page.connect();
    const first = await socket(1);
    first.register("new", { ping_ms: 10_000 });
    mock.timers.tick(20_001);
    assert.equal(first.of("ping").length, 1);
    first.push({ type: "pong" });
    mock.timers.tick(20_001);
    assert.equal(first.of("ping").length, 2);
    const reasons: unknown[] = [];
    page.on("state", ({ state, reason }) => state === "waiting" && reasons.push(reason));
    mock.timers.tick(5_001);
    assert.deepEqual(reasons, ["the server fell silent"]);
  } finally {
    page.close();
    mock.timers.reset();
  }
});

test("a call gives up at its time-out also while the server is away", async () => {
  const { page } = bench();
  await assert.rejects(page.call("a", null, { timeout_ms: 5 }), code("timeout"));
});

test("a request that cannot be sent fails alone", async () => {
  const { page, socket } = bench({ max_pending: 2 });
  void page.connect();
  const first = await socket(1);
  first.register("new", { limits: { max_frame: 200, frames_per_second: 100 } });
  await assert.rejects(page.call("a", "é".repeat(100)), code("too_large"));
  const taken = [page.call("b"), page.call("c")].map((call) => assert.rejects(call, code("uncertain")));
  await assert.rejects(page.call("d"), code("overflow"));
  assert.deepEqual(first.of("call").map((call) => call["method"]), ["b", "c"]);
  page.close();
  await Promise.all(taken);
});

test("identity, errors without an id and unknown frames reach their listeners", async () => {
  const { page, socket } = bench();
  const heard: unknown[] = [];
  page.on("identity", ({ user }) => heard.push(user));
  page.on("error", (error) => heard.push(error.code));
  page.on("frame", (frame) => heard.push(frame.type));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.push({ type: "identity", user: "ada" });
  first.push({ type: "error", code: "malformed", message: "?", retryable: false });
  first.push({ seq: 1, type: "comet", tail: 1 });
  assert.deepEqual(heard, ["ada", "malformed", "comet"]);
  assert.equal(page.registered?.user, "ada");
  page.close();
});

test("a page whose node has another number resumes with its new address and token", async () => {
  const { page, socket } = bench();
  void page.connect();
  const first = await socket(1);
  first.register("new");
  const page_id = "p|p07";
  first.push({ type: "address", page_id, token: "newer" });
  assert.equal(page.registered?.node, "p07");
  first.end(1006);
  const again = await socket(2);
  again.register("recovered", { page_id });
  assert.deepEqual(again.of("hello")[0]?.["page_id"], page_id);
  assert.equal((again.of("hello")[0]?.["resume"] as { token: string }).token, "newer");
  page.close();
});

test("a listener that throws does not stop the others", async () => {
  const { page, socket } = bench();
  const complaint = mock.method(console, "error", () => undefined);
  let heard = 0;
  page.on("message", () => {
    throw new Error("listener");
  });
  page.on("message", () => (heard += 1));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  first.push({ seq: 1, type: "message", payload: 1 });
  assert.equal(heard, 1);
  assert.match(String(complaint.mock.calls[0]?.arguments[0]), /listener/);
  complaint.mock.restore();
  page.close();
});

test("an expired token without a provider ends the page, unless a cookie may bring a new one", async () => {
  const given = bench({ token: "jwt" });
  const refused = assert.rejects(given.page.connect(), code("unauthenticated"));
  (await given.socket(1)).end(4504);
  await refused;
  const cookie = bench();
  void cookie.page.connect();
  (await cookie.socket(1)).end(4504);
  (await cookie.socket(2)).register("new");
  assert.equal(cookie.page.state, "open");
  cookie.page.close();
});

test("a token provider that fails is asked again later", async () => {
  let asked = 0;
  const token = async (): Promise<string> => {
    if (++asked === 1) throw new Error("offline");
    return "jwt";
  };
  const { page, socket } = bench({ token });
  const errors: string[] = [];
  page.on("error", (error) => errors.push(error.code));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  assert.equal(first.of("hello")[0]?.["token"], "jwt");
  assert.deepEqual(errors, ["unauthenticated"]);
  page.close();
});

test("a socket that may not be opened at all ends the page with the reason", async () => {
  class Forbidden {
    constructor() {
      throw new Error("insecure");
    }
  }
  const { page } = bench({ WebSocket: Forbidden as unknown as WebSocketConstructor });
  await assert.rejects(page.connect(), /insecure/);
  assert.equal(page.state, "closed");
});

test("a socket that reports an error is followed by the next one", async () => {
  const { page, socket } = bench();
  const registered = page.connect();
  fail(await socket(1));
  (await socket(2)).register("new");
  assert.equal((await registered).page_id, "p|p01");
  page.close();
});

test("requests of a burst are paced below the server's limit", async () => {
  const { page, socket } = bench();
  void page.connect();
  const first = await socket(1);
  first.register("new", { limits: { max_frame: 65_536, frames_per_second: 20 } });
  const calls = Array.from({ length: 12 }, (_, n) => page.call("echo", n));
  const written = first.of("call").length;
  assert.ok(written >= 5 && written <= 10, String(written));
  for (let turn = 0; first.of("call").length < 12 && turn < 500; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.deepEqual(first.of("call").map((call) => call["params"]), Array.from({ length: 12 }, (_, n) => n));
  first.of("call").forEach(({ id }, n) => first.push({ seq: n + 1, type: "result", id, value: n }));
  assert.equal((await Promise.all(calls)).length, 12);
  page.close();
});
