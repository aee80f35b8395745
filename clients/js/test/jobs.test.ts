import assert from "node:assert/strict";
import { test } from "node:test";
import { PagewireError } from "../src/error.js";
import type { JobNews } from "../src/types.js";
import { bench, MemoryStorage, withLocks, type Bench, type FakeSocket } from "./fake.js";

const code = (expected: string) => (error: unknown) => error instanceof PagewireError && error.code === expected;

/** Returns a page with its first socket open. */
async function opened(options = {}): Promise<Bench & { first: FakeSocket }> {
  const opening = bench(options);
  void opening.page.connect();
  const first = await opening.socket(1);
  first.register("new");
  return { ...opening, first };
}

const jobs = (socket: FakeSocket): unknown[] => socket.of("job").map((job) => job["kind"]);
const cancelled = (socket: FakeSocket): unknown[] => socket.of("cancel").map(({ id }) => id);
const pending = (socket: FakeSocket): unknown => socket.of("hello")[0]?.["pending"];

test("a job is accepted, says how far it has come and ends with its value", async () => {
  const { page, first } = await opened();
  const job = page.job("hash", { rounds: 3 }, { retries: 2, run_at: new Date(0), pool: "cpu", exec_mode: "any" });
  const steps: unknown[] = [];
  job.on("progress", (step) => steps.push(step));
  const { id, ...frame } = first.of("job")[0] ?? {};
  assert.deepEqual(frame, {
    ...{ type: "job", kind: "hash", data: { rounds: 3 }, exec_mode: "any", pool: "cpu", retries: 2 },
    run_at: "1970-01-01T00:00:00.000Z",
  });
  first.push({ seq: 1, type: "accepted", id, job: "j1" });
  assert.equal(await job.accepted, "j1");
  first.push({ seq: 2, type: "progress", id, job: "j1", progress: 0.5, message: "half" });
  first.push({ seq: 3, type: "progress", id, job: "j1", progress: 0.9 });
  first.push({ seq: 4, type: "result", id, job: "j1", state: "succeeded", value: "af" });
  assert.equal(await job.result, "af");
  assert.deepEqual(steps, [{ progress: 0.5, message: "half" }, { progress: 0.9 }]);
  page.close();
});

test("a job that ends without a value rejects with how it ended", async () => {
  const { page, first } = await opened();
  const failed = page.job("fail");
  const cancelled = page.job("sleep");
  const [one, other] = first.of("job").map(({ id }) => id);
  const error = { code: "failed", message: "on purpose", retryable: true };
  first.push({ seq: 1, type: "result", id: one, job: "j1", state: "dead", error });
  first.push({ seq: 2, type: "result", id: other, job: "j2", state: "cancelled" });
  await assert.rejects(failed.result, { ...error, state: "dead" });
  await assert.rejects(cancelled.result, { code: "cancelled", state: "cancelled", retryable: false });
  assert.equal(await failed.accepted, "j1", "it was accepted, whether or not that was heard");
  page.close();
});

test("a refused job was never accepted", async () => {
  const { page, first } = await opened({ max_pending: 1 });
  const job = page.job("hash");
  await assert.rejects(page.job("hash").result, code("overflow"));
  const id = first.of("job")[0]?.id;
  first.push({ seq: 1, type: "error", id, code: "conflict", message: "another job", retryable: false });
  await assert.rejects(job.accepted, code("conflict"));
  await assert.rejects(job.result, { code: "conflict", state: undefined });
  page.close();
});

test("a job outlives a reset, and the server is asked for it", async () => {
  const { page, first, socket } = await opened();
  const job = page.job("sleep");
  const call = assert.rejects(page.call("sum"), code("uncertain"));
  const id = first.of("job")[0]?.id;
  first.push({ seq: 1, type: "accepted", id, job: "j1" });
  first.end(1006);
  const later = page.job("later");
  const second = await socket(2);
  second.register("reset");
  assert.deepEqual(pending(second), [id], "what was never sent is not named");
  await call;
  assert.deepEqual(jobs(second), ["later"]);
  second.push({ seq: 1, type: "accepted", id, job: "j1" });
  second.push({ seq: 2, type: "result", id, job: "j1", state: "succeeded", value: 1 });
  second.push({ seq: 3, type: "result", id: second.of("job")[0]?.id, job: "j2", state: "succeeded", value: 2 });
  assert.deepEqual(await Promise.all([job.result, later.result]), [1, 2]);
  second.end(1006);
  const third = await socket(3);
  third.register("recovered");
  assert.equal(pending(third), undefined, "what is over is not asked for");
  page.close();
});

test("that the server has not heard of a job yet is not the answer to it", async () => {
  const { page, first, socket } = await opened();
  const job = page.job("sleep");
  const id = first.of("job")[0]?.id;
  const unknown = { type: "error", id, code: "uncertain", message: "unknown", retryable: false };
  first.end(1006);
  const second = await socket(2);
  second.register("recovered", { received: 0 });
  assert.deepEqual([pending(second), jobs(second)], [[id], ["sleep"]]);
  second.push({ seq: 1, ...unknown });
  second.end(1006);
  const third = await socket(3);
  third.register("recovered", { seq: 1, received: 0 });
  assert.deepEqual(jobs(third), ["sleep"], "it has not arrived with the second socket either");
  third.push({ seq: 2, type: "accepted", id, job: "j1" });
  assert.equal(await job.accepted, "j1");
  third.push({ seq: 3, ...unknown });
  await assert.rejects(job.result, code("uncertain"));
  page.close();
});

test("a job that waits to be sent again may be lost no more, and is not asked for", async () => {
  const { page, first, socket } = await opened();
  const all = ["a", "b"].map((kind) => page.job(kind).result);
  first.end(1006);
  const second = await socket(2);
  second.register("recovered", { received: 0, limits: { max_frame: 65_536, frames_per_second: 2 } });
  assert.deepEqual(jobs(second), ["a"], "the other one waits for its turn");
  second.end(1006);
  const third = await socket(3);
  third.register("reset");
  assert.deepEqual([pending(third), jobs(third)], [[second.of("job")[0]?.id], ["b"]]);
  page.close();
  await Promise.allSettled(all);
});

test("after a reset the server's word counts, also when it comes with a later socket", async () => {
  const { page, first, socket } = await opened();
  const job = page.job("sleep");
  const id = first.of("job")[0]?.id;
  first.end(1006);
  (await socket(2)).register("reset");
  (await socket(2)).end(1006);
  const third = await socket(3);
  third.register("recovered");
  third.push({ seq: 1, type: "error", id, code: "uncertain", message: "unknown", retryable: false });
  await assert.rejects(job.accepted, code("uncertain"));
  await assert.rejects(job.result, code("uncertain"));
  page.close();
});

test("a page asks for as many jobs as the server answers for, the newest first", async () => {
  const { page, socket } = bench();
  void page.connect();
  const first = await socket(1);
  first.register("new", { limits: { max_frame: 65_536, frames_per_second: 1_000 } });
  const results = Array.from({ length: 300 }, () => page.job("sleep").result);
  first.end(1006);
  const second = await socket(2);
  second.register("recovered");
  const newest = first.of("job").map(({ id }) => id).reverse();
  assert.deepEqual(pending(second), newest.slice(0, 256));
  page.close();
  await Promise.allSettled(results);
});

test("jobs end for a page that is replaced or closed, and say which were sent", async () => {
  const { page, first } = await opened();
  const sent = page.job("sleep");
  first.end(1006);
  const unsent = page.job("sleep");
  page.close();
  await assert.rejects(sent.result, code("uncertain"));
  await assert.rejects(unsent.result, code("closed"));
});

test("a job is cancelled where it is", async () => {
  const { page, first, socket } = await opened();
  const job = page.job("sleep");
  const id = first.of("job")[0]?.id;
  job.cancel();
  assert.deepEqual(cancelled(first), [], "on its way there is nothing to cancel yet");
  first.push({ seq: 1, type: "accepted", id, job: "j1" });
  job.cancel();
  assert.deepEqual(cancelled(first), [id]);
  first.end(1006);
  const unsent = page.job("sleep");
  unsent.cancel();
  await assert.rejects(unsent.result, { code: "cancelled", state: "cancelled" });
  const second = await socket(2);
  second.register("reset");
  assert.deepEqual([jobs(second), cancelled(second)], [[], []]);
  second.push({ seq: 1, type: "accepted", id, job: "j1" });
  assert.deepEqual(cancelled(second), [id], "the reset may have taken the first word with it");
  second.push({ seq: 2, type: "result", id, job: "j1", state: "cancelled" });
  await assert.rejects(job.result, { code: "cancelled", state: "cancelled" });
  job.cancel();
  assert.equal(cancelled(second).length, 1, "what is over is not cancelled");
  page.close();
});

test("an aborted call rejects at once, and the server is told to stop it", async () => {
  const { page, first, socket } = await opened();
  const abort = new AbortController();
  const calls = ["a", "b"].map((method) => page.call(method, null, { signal: abort.signal, pool: "cpu" }));
  const [one, other] = first.of("call");
  assert.deepEqual(Object.keys(one ?? {}), ["type", "method", "params", "pool", "id"]);
  first.push({ seq: 1, type: "result", id: one?.id, value: 1 });
  assert.equal(await calls[0], 1);
  abort.abort();
  await assert.rejects(calls[1] ?? Promise.resolve(), code("cancelled"));
  assert.deepEqual(cancelled(first), [other?.id], "one that was answered is not cancelled");
  first.end(1006);
  const second = await socket(2);
  second.register("recovered", { seq: 1, received: 2 });
  assert.deepEqual([second.of("call"), cancelled(second)], [[], [other?.id]], "the word may have been lost");
  second.push({ seq: 2, type: "error", id: other?.id, code: "cancelled", message: "stopped", retryable: false });
  await assert.rejects(page.call("c", null, { signal: abort.signal }), code("cancelled"));
  assert.deepEqual(second.of("call"), []);
  page.close();
});

test("a call that is aborted before it is sent never goes out", async () => {
  const { page, socket } = bench();
  const abort = new AbortController();
  const call = page.call("a", null, { signal: abort.signal });
  abort.abort();
  await assert.rejects(call, code("cancelled"));
  void page.connect();
  const first = await socket(1);
  first.register("new");
  assert.deepEqual([first.of("call"), first.of("cancel")], [[], []]);
  page.close();
});

test("a reloaded document asks for its predecessor's jobs and hears of them as events", async () => {
  const restore = withLocks();
  try {
    const storages = { local_storage: new MemoryStorage(), session_storage: new MemoryStorage() };
    const { page: before, first } = await opened(storages);
    ["sleep", "gone", "over"].forEach((kind) => before.job(kind));
    const [sleep, gone, over] = first.of("job").map(({ id }) => id);
    [sleep, gone, over].forEach((id, n) => first.push({ seq: n + 1, type: "accepted", id, job: `j${n}` }));
    first.push({ seq: 4, type: "result", id: over, job: "j2", state: "succeeded" });

    const { page, socket } = bench(storages);
    const news: JobNews[] = [];
    page.on("job", (event) => news.push(event));
    void page.connect();
    const again = await socket(1);
    again.register("reset");
    assert.deepEqual(pending(again), [gone, sleep], "the newest first");
    const own = page.job("own");
    const id = again.of("job")[0]?.id;
    assert.ok(id && ![sleep, gone, over].includes(id));
    again.push({ seq: 1, type: "accepted", id: sleep, job: "j0" });
    again.push({ seq: 2, type: "progress", id: sleep, job: "j0", progress: 0.5 });
    again.push({ seq: 3, type: "result", id: sleep, job: "j0", state: "failed", error: { code: "failed" } });
    again.push({ seq: 4, type: "error", id: gone, code: "uncertain", message: "unknown", retryable: false });
    again.push({ seq: 5, type: "result", id, job: "j3", state: "succeeded", value: 3 });
    assert.equal(await own.result, 3);
    const [accepted, progress, ended, lost] = news;
    assert.deepEqual([accepted, progress], [{ job: "j0" }, { job: "j0", progress: 0.5 }]);
    assert.deepEqual([ended?.job, ended?.state, ended?.error?.code], ["j0", "failed", "failed"]);
    assert.deepEqual([lost?.job, lost?.state, lost?.error?.code], ["j1", undefined, "uncertain"]);
    again.end(1006);
    const last = await socket(2);
    last.register("recovered");
    assert.equal(pending(last), undefined);
    page.close();
    before.close();
  } finally {
    restore();
  }
});

test("a job that a program submits on behalf of the page is an event, and no answer is taken for one", async () => {
  const { page, first, socket } = await opened();
  const news: JobNews[] = [];
  page.on("job", (event) => news.push(event));
  first.push({ seq: 1, type: "progress", id: "j9", job: "j9", progress: 0.1, message: "begun" });
  first.push({ seq: 2, type: "result", id: "nobody's", value: 1 });
  first.push({ seq: 3, type: "error", id: "nobody's", code: "failed", message: "no", retryable: false });
  first.end(1006);
  const second = await socket(2);
  second.register("reset");
  assert.deepEqual(pending(second), ["j9"]);
  second.push({ seq: 1, type: "result", id: "j9", job: "j9", state: "succeeded", value: [1] });
  assert.deepEqual(news, [
    { job: "j9", progress: 0.1, message: "begun" },
    { job: "j9", state: "succeeded", value: [1] },
  ]);
  second.push({ seq: 2, type: "progress", id: "j9", job: "j9", progress: 0.9 });
  second.push({ seq: 3, type: "result", id: "j9", job: "j9", state: "succeeded", value: [1] });
  assert.equal(news.length, 2, "nothing comes after the end");
  second.end(1006);
  const third = await socket(3);
  third.register("recovered", { seq: 3 });
  assert.equal(pending(third), undefined);
  page.close();
});
