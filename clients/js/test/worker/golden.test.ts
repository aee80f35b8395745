// The golden frames of the child wire, which other implementations read as well.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { requestFrame } from "../../src/worker/child.js";
import { Fail, Retry } from "../../src/worker/errors.js";
import { Handler } from "../../src/worker/handler.js";
import * as outcome from "../../src/worker/outcome.js";
import { ready, VERSION } from "../../src/worker/ready.js";
import { jobParams, callParams } from "../../src/worker/requests.js";
import { frame, FrameReader, type Message } from "../../src/worker/wire.js";

const FOLDER = "../../tests/golden/child";
const vectors = new Map(
  readdirSync(FOLDER).map((file) => {
    const { name, frame, message } = JSON.parse(readFileSync(`${FOLDER}/${file}`, "utf8"));
    return [name as string, { frame: frame as string, message: message as Message }];
  }),
);
const golden = (name: string): { frame: string; message: Message } => vectors.get(name) ?? assert.fail(name);
const work = (id: number): outcome.EndedWork => ({ id, method: "report", cancelled: undefined });

test("a golden frame is read as its message and written from it", () => {
  assert.ok(vectors.size > 30);
  for (const [name, vector] of vectors) {
    assert.deepEqual(new FrameReader().read(Buffer.from(vector.frame, "hex")), [vector.message], name);
    assert.equal(frame(vector.message).toString("hex"), vector.frame, name);
  }
});

test("frames are read in pieces of any size, and several at once", () => {
  const whole = Buffer.concat([...vectors.values()].map((vector) => Buffer.from(vector.frame, "hex")));
  const messages = [...vectors.values()].map((vector) => vector.message);
  for (const size of [1, 3, 4, 5, 64, 1000, whole.length]) {
    const reader = new FrameReader();
    const read: Message[] = [];
    for (let at = 0; at < whole.length; at += size) read.push(...reader.read(whole.subarray(at, at + size)));
    assert.deepEqual(read, messages, `pieces of ${size} bytes`);
  }
});

test("the ends of work are the golden frames", () => {
  const ends = {
    result: outcome.result(work(1), golden("result").message["value"]),
    "result-null": outcome.result(work(0), undefined),
    error: outcome.failure(work(2), new Fail("no_stock", "sold out")),
    snooze: outcome.failure(work(2), new outcome.Snoozed(60_000)),
    stopped: outcome.stopped(2),
  };
  for (const [name, data] of Object.entries(ends)) assert.equal(data.toString("hex"), golden(name).frame, name);
  const { trace: _, ...expected } = golden("error-retry").message;
  const [retry] = new FrameReader().read(outcome.failure(work(2), new Retry("ValueError: broken", { afterMs: 1500 })));
  assert.deepEqual(retry, expected);
});

test("a request is the golden frame", () => {
  // a child of this package serves no HTTP: each of its requests belongs to work
  const requests = [...vectors].filter(([name, { message }]) => name.startsWith("request-") && "work" in message);
  assert.ok(requests.length >= 10);
  for (const [name, { frame, message }] of requests) {
    const { id, work, method, params } = message as unknown as {
      id: number;
      work: number;
      method: string;
      params: object;
    };
    assert.equal(requestFrame(id, work, method, params).toString("hex"), frame, name);
  }
  const options = { user: null, delayMs: 60_000, mode: "any", pool: "reports", retries: 3 } as const;
  const job = jobParams("report", { month: "2026-03" }, { ...options, key: "report-2026-03" });
  assert.deepEqual(job, golden("request-job.submit").message["params"]);
  const call = callParams("sum", [1, 2], { user: "bob", timeoutMs: 2000, mode: "any", pool: "default" });
  assert.deepEqual(call, golden("request-call").message["params"]);
});

test("ready is the golden message", () => {
  const schema = { properties: { month: { type: "string" } }, required: ["month"] } as const;
  const options = {
    mode: "assigned",
    serial: "user",
    timeoutMs: 600_000,
    retries: 5,
    schema,
    doc: "Writes a report.",
  } as const;
  const handlers = [new Handler("search", {}, () => null), new Handler("report", options, () => null)];
  const written = ready(new Map(handlers.map((handler) => [handler.name, handler])), "secret-of-this-child");
  const own = { pid: process.pid, sdk: `node/${VERSION}` };
  assert.deepEqual(written, { ...golden("ready").message, ...own });
  assert.deepEqual(Object.keys(written), Object.keys(golden("ready").message));
});

test("the version of the package is that of its file", () => {
  assert.equal(VERSION, JSON.parse(readFileSync("package.json", "utf8")).version);
});
