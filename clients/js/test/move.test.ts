// A page that moves to another node: a second socket takes it over, and the page does not notice.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { delayOf, targets } from "../src/move.js";
import type { Message, StateChange } from "../src/types.js";
import { bench, type Bench, type FakeSocket } from "./fake.js";

const OTHER = "ws://other.test/_ws";
const OWN = "ws://server.test/_ws";

interface Seen {
  messages: unknown[];
  states: string[];
}

function watched({ page }: Bench): Seen {
  const seen: Seen = { messages: [], states: [] };
  page.on("message", ({ payload }: Message) => seen.messages.push(payload));
  page.on("state", ({ state }: StateChange) => seen.states.push(state));
  page.on("reset", () => seen.states.push("reset"));
  return seen;
}

const message = (seq: number): object => ({ type: "message", seq, payload: seq });

const helloOf = (socket: FakeSocket): Record<string, unknown> => socket.of("hello")[0] ?? {};

/** Opens a page at its first node. */
async function opened(): Promise<{ b: Bench; seen: Seen; first: FakeSocket }> {
  const b = bench();
  const connected = b.page.connect();
  const first = await b.socket(1);
  first.register("new");
  await connected;
  return { b, seen: watched(b), first };
}

test("a page moves without losing, doubling or reordering a frame, and does not notice", async () => {
  const { b, seen, first } = await opened();
  void b.page.call("before").catch(() => undefined);
  first.push(message(1));
  first.push({ type: "move", url: OTHER, retry_after_ms: 1 });
  const second = await b.socket(2);
  assert.equal(second.url, OTHER);
  first.push(message(2));
  second.open();
  const hello = helloOf(second);
  assert.deepEqual([hello["resume"], hello["stay"]], [{ token: "t1", seq: 2 }, true]);
  // the first node still has the page
  first.push(message(3));
  void b.page.call("between").catch(() => undefined);
  assert.deepEqual(first.of("call").map(({ method }) => method), ["before"], "waits for one of the two sockets");
  first.end(4006);
  assert.equal(b.page.state, "open");
  second.register("recovered", { seq: 2, received: 1, page_id: "p|p02", token: "t2" });
  assert.deepEqual(second.of("call").map(({ method }) => method), ["between"]);
  for (const seq of [3, 4]) second.push(message(seq));
  assert.deepEqual(seen, { messages: [1, 2, 3, 4], states: [] });
  assert.equal(b.page.registered?.page_id, "p|p02");
  b.page.close();
});

test("frames that its old node has not processed are sent again at the new one", async () => {
  const { b, first } = await opened();
  const answers = ["a", "b", "c"].map((method) => b.page.call(method));
  const [a, , c] = first.of("call");
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  second.register("recovered", { seq: 0, received: 1 });
  assert.deepEqual(second.of("call").map(({ method }) => method), ["b", "c"]);
  second.push({ type: "result", seq: 1, id: a?.id, value: 1 });
  second.push({ type: "result", seq: 2, id: second.of("call")[0]?.id, value: 2 });
  second.push({ type: "result", seq: 3, id: c?.id, value: 3 });
  assert.deepEqual(await Promise.all(answers), [1, 2, 3]);
  assert.deepEqual(first.of("close"), [{ type: "close", code: 1000 }]);
  b.page.close();
});

test("nothing is acknowledged while a page is asked for, because its new node may send it again", async () => {
  const { b, first } = await opened();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  second.open();
  for (let seq = 1; seq <= 40; seq++) first.push(message(seq));
  assert.deepEqual(first.of("ack"), []);
  second.register("recovered", { seq: 0 });
  for (let seq = 1; seq <= 41; seq++) second.push(message(seq));
  assert.deepEqual(second.of("ack").map(({ seq }) => seq), [40], "at once");
  b.page.close();
});

test("a page stays where it is when no other socket takes it, and a later move is tried again", async () => {
  const { b, seen, first } = await opened();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  (await b.socket(2)).end(1006);
  const third = await b.socket(3);
  assert.equal(third.url, OWN, "a proxy may lead to another node");
  third.open();
  const answer = b.page.call("echo");
  third.end(4500);
  assert.deepEqual(first.of("call").map(({ method }) => method), ["echo"]);
  first.push({ type: "result", seq: 1, id: first.of("call")[0]?.id, value: 7 });
  assert.equal(await answer, 7);
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  (await b.socket(4)).register("recovered", { seq: 1, received: 1 });
  assert.deepEqual(seen, { messages: [], states: [] });
  b.page.close();
});

test("a page that another node took, whose second socket broke, comes back as the same page", async () => {
  const { b, seen, first } = await opened();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  second.open();
  first.end(4006);
  second.end(1006);
  (await b.socket(3)).end(1006);
  const fourth = await b.socket(4);
  fourth.open();
  assert.equal(helloOf(fourth)["page_id"], "p|p01", "4006 only said that the page was on its way");
  fourth.register("recovered");
  assert.deepEqual(seen.states, ["waiting", "recovering", "open"]);
  b.page.close();
});

test("a page that loses its first socket before the second one is open comes back at the node that was named", async () => {
  const { b, seen, first } = await opened();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  first.end(4500);
  const third = await b.socket(3);
  assert.deepEqual([second.of("close").length, third.url], [1, OTHER]);
  third.end(1006);
  const fourth = await b.socket(4);
  assert.equal(fourth.url, OWN, "that node does not answer");
  fourth.register("recovered");
  assert.deepEqual(seen.states, ["waiting", "recovering", "waiting", "recovering", "open"]);
  b.page.close();
});

test("a page is opened at the node of its lane, and comes back there", async () => {
  const b = bench();
  const connected = b.page.connect();
  const first = await b.socket(1);
  first.open();
  assert.deepEqual([helloOf(first)["features"], "stay" in helloOf(first)], [["move"], false]);
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  second.register("new", { lane: "blue" });
  assert.equal((await connected).lane, "blue");
  assert.deepEqual(first.of("close"), [{ type: "close", code: 1000 }]);
  second.end(1006);
  const third = await b.socket(3);
  assert.equal(third.url, OTHER);
  third.end(1006);
  assert.equal((await b.socket(4)).url, OWN, "that node is gone");
  b.page.close();
});

test("a page that cannot be opened at the node of its lane is opened where it arrived", async () => {
  const b = bench();
  const connected = b.page.connect();
  const first = await b.socket(1);
  first.open();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  (await b.socket(2)).end(1006);
  assert.equal(first.of("hello")[1]?.["stay"], true);
  first.register("new");
  assert.equal((await connected).lane, "stable");
  assert.equal(b.sockets.length, 2);
  b.page.close();
});

test("a page that closes while it moves leaves no socket open", async () => {
  const { b, first } = await opened();
  first.push({ type: "move", url: OTHER, retry_after_ms: 0 });
  const second = await b.socket(2);
  second.open();
  b.page.close();
  assert.deepEqual([first.of("close").length, second.of("close").length], [1, 1]);
});

test("the golden vectors of move hold", () => {
  const golden = JSON.parse(readFileSync("../../tests/golden/move.json", "utf8")) as {
    move: { url: string | null; retry_after_ms: number; text: string }[];
  };
  for (const { url, retry_after_ms, text } of golden.move) {
    const frame = JSON.parse(text) as { type: string };
    assert.equal(delayOf(frame), retry_after_ms);
    assert.deepEqual(targets(frame, OWN, true), url === null ? [OWN] : [url, OWN]);
    assert.deepEqual(targets(frame, OWN, false), url === null ? [] : [url]);
  }
});

test("a page of a server elsewhere does not follow an address on its own machine", () => {
  const of = (url: string, own: string): string[] => targets({ type: "move", url } as never, own, false);
  assert.deepEqual(of("ws://127.0.0.1:8080/_ws", OWN), []);
  assert.deepEqual(of("ws://localhost:8080/_ws", OWN), []);
  assert.deepEqual(of("ws://127.0.0.1:8081/_ws", "ws://localhost:8080/_ws"), ["ws://127.0.0.1:8081/_ws"]);
  assert.deepEqual(of("javascript:alert(1)", OWN), []);
  assert.deepEqual(of("", OWN), []);
});
