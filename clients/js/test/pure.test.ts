import assert from "node:assert/strict";
import { test } from "node:test";
import { delayMs } from "../src/backoff.js";
import { verdict } from "../src/close.js";
import { Identity } from "../src/identity.js";
import { Incoming } from "../src/incoming.js";
import { Outgoing } from "../src/outgoing.js";
import { Pace } from "../src/pace.js";
import type { Registered } from "../src/types.js";

const backoff = { base_ms: 500, cap_ms: 20_000 };

test("a wait is anywhere in a window that doubles up to the cap", () => {
  for (let attempt = 0; attempt < 100; attempt++) {
    const window = Math.min(20_000, 500 * 2 ** attempt);
    assert.equal(delayMs(attempt, backoff, 0, () => 0), 0);
    assert.equal(delayMs(attempt, backoff, 0, () => 1), window);
    const wait = delayMs(attempt, backoff, 0, Math.random);
    assert.ok(wait >= 0 && wait <= window);
  }
});

test("the advised delay is a minimum, and clients spread behind it", () => {
  assert.equal(delayMs(0, backoff, 1_500, () => 0), 1_500);
  assert.equal(delayMs(0, backoff, 1_500, () => 1), 2_000);
  assert.equal(delayMs(0, backoff, 1e12, () => 1), 3_600_000);
});

test("only 4000 to 4499 do not come back", () => {
  for (const code of [1000, 1001, 1006, 1011, 3000, 3999, 4500, 4505, 4506, 4777, 4999]) {
    assert.equal(verdict(code, "").reconnect, true, String(code));
  }
  for (const code of [4000, 4001, 4003, 4004, 4005, 4006, 4007, 4009, 4123, 4499]) {
    assert.equal(verdict(code, "").reconnect, false, String(code));
  }
});

test("a refused token asks for another one", () => {
  assert.equal(verdict(4504, "").renewToken, true);
  assert.equal(verdict(4001, "").renewToken, true);
  assert.equal(verdict(4003, "").renewToken, false);
});

test("a page that is lost for good is forgotten, and says why", () => {
  assert.equal(verdict(4006, "").forgetPage, true);
  assert.equal(verdict(4500, "").forgetPage, false);
  assert.equal(verdict(4006, "").ending, "replaced");
});

test("a close reason may be JSON, a text or nothing", () => {
  const { advisedMs, reason } = verdict(4500, '{"retry_after_ms":1500,"reason":"draining"}');
  assert.deepEqual([advisedMs, reason], [1500, "draining"]);
  assert.equal(verdict(4500, '{"retry_after_ms":-5}').advisedMs, 0);
  assert.equal(verdict(1001, "going away").reason, "going away");
  assert.equal(verdict(1006, "").advisedMs, 0);
  assert.equal(verdict(1006, "null").advisedMs, 0);
});

test("numbered frames arrive once and in order", () => {
  const incoming = new Incoming();
  incoming.restart(7);
  assert.equal(incoming.accept(7), "duplicate");
  assert.equal(incoming.accept(8), "new");
  assert.equal(incoming.accept(8), "duplicate");
  assert.equal(incoming.accept(10), "gap");
  assert.equal(incoming.last, 8);
});

test("an acknowledgement is due after 32 frames", () => {
  const incoming = new Incoming();
  for (let seq = 1; seq <= 31; seq++) incoming.accept(seq);
  assert.equal(incoming.due, false);
  incoming.accept(32);
  assert.equal(incoming.due, true);
  assert.equal(incoming.ack(), 32);
  assert.equal(incoming.unacked, false);
});

function outgoing(...ids: string[]): Outgoing {
  const frames = new Outgoing();
  for (const id of ids) frames.push({ id, text: id });
  return frames;
}

function drain(frames: Outgoing, count = Infinity): string[] {
  const ids: string[] = [];
  for (let frame; ids.length < count && (frame = frames.peek()); frames.shift()) ids.push(frame.text);
  return ids;
}

test("a recovered page sends again what the server has not processed, in order and before what waits", () => {
  const frames = outgoing("a", "b", "c", "d");
  assert.deepEqual(drain(frames, 3), ["a", "b", "c"]);
  frames.recover(1, () => true);
  assert.deepEqual(drain(frames), ["b", "c", "d"]);
  frames.recover(4, () => true);
  assert.deepEqual(drain(frames), []);
});

test("an answer proves that everything before it was processed", () => {
  const frames = outgoing("a", "b", "c");
  drain(frames);
  frames.answered("b");
  frames.recover(2, () => true);
  assert.deepEqual(drain(frames), ["c"]);
});

test("a frame that nobody waits for is not sent again", () => {
  const frames = outgoing("a", "b");
  drain(frames);
  frames.recover(0, ({ id }) => id !== "a");
  assert.deepEqual(drain(frames), ["b"]);
  frames.push({ id: "c", text: "c" });
  frames.withdraw("c");
  assert.deepEqual(drain(frames), []);
});

test("a frame without an id goes out although no answer names it, and counts", () => {
  const frames = outgoing("a");
  frames.push({ text: "cancel" });
  frames.push({ id: "b", text: "b" });
  drain(frames);
  frames.answered("a");
  assert.deepEqual(frames.recover(1, ({ id }) => id !== "b"), [{ text: "cancel" }]);
  assert.deepEqual(drain(frames), ["cancel"]);
});

test("only a frame that waits can be taken back", () => {
  const frames = outgoing("a", "b");
  drain(frames, 1);
  assert.deepEqual([frames.withdraw("a"), frames.withdraw("b"), frames.withdraw("c")], [false, true, false]);
  frames.recover(0, () => true);
  assert.equal(frames.withdraw("a"), true, "the server has not processed it");
  assert.deepEqual(drain(frames), []);
});

test("after a reset nothing is sent twice", () => {
  const frames = outgoing("a", "b");
  drain(frames, 1);
  frames.restart(0);
  assert.deepEqual(drain(frames), ["b"]);
});

test("every window over random losses sends each frame until it is processed, and never one that was", () => {
  for (let run = 0; run < 500; run++) {
    const frames = new Outgoing();
    const processed: string[] = [];
    let pushed = 0;
    for (let socket = 0; socket < 8; socket++) {
      for (let n = Math.floor(Math.random() * 5); n > 0; n--) {
        const id = `f${pushed++}`;
        frames.push({ id, text: id });
      }
      const sent = drain(frames, Math.floor(Math.random() * 8));
      const arrived = sent.slice(0, Math.floor(Math.random() * (sent.length + 1)));
      processed.push(...arrived);
      const answered = arrived[Math.floor(Math.random() * (arrived.length + 1))];
      if (answered !== undefined) frames.answered(answered);
      frames.recover(processed.length, () => true);
    }
    processed.push(...drain(frames));
    assert.deepEqual(processed, Array.from({ length: pushed }, (_, n) => `f${n}`));
  }
});

test("no second ever carries more frames than the server takes", () => {
  const pace = new Pace();
  pace.restart(100, 0);
  const times: number[] = [];
  for (let now = 0; times.length < 500; ) {
    const wait = pace.waitMs(now);
    if (wait === 0) times.push(now);
    now += wait;
  }
  for (const start of times) {
    assert.ok(times.filter((time) => time >= start && time < start + 1000).length <= 100);
  }
  assert.ok((times.at(-1) ?? 0) < 12_000, "and the limit is used");
});

test("a page names the ids of an older deployment until it has its own", () => {
  const older = { page_id: "p".repeat(22), session_id: "s".repeat(22), connection_id: "c".repeat(22) };
  const identity = new Identity(null, null, "slot", older);
  assert.deepEqual(identity.hello(0, [], []), older);
  const own = { page_id: "P|p01", session_id: "S|p01", connection_id: "C|p01" };
  identity.learn({ ...own, token: "t" } as Registered, 0);
  const { watch, resume, ...named } = identity.hello(3, [], []);
  assert.deepEqual(named, own);
  assert.deepEqual(resume, { token: "t", seq: 3 });
  assert.deepEqual(watch, []);
});
