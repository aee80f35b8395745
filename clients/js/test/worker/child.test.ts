import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { Cancelled, Fail, Retry } from "../../src/worker/errors.js";
import type { Context } from "../../src/worker/types.js";
import { pack } from "../../src/worker/wire.js";
import { Refusal, Supervisor } from "./supervisor.js";

/** Ends when the work is cancelled. */
const untilCancelled = (ctx: Context): Promise<void> => sleep(600_000, undefined, { signal: ctx.signal });

test("a handler knows its work", async (t) => {
  const seen: Context[] = [];
  const supervisor = await Supervisor.start(t, { report: (ctx) => void seen.push(ctx) });
  await supervisor.end(
    supervisor.job("report", null, { user: "ada", page: "p|1", attempt: 2, left: 3, trace: "00-1" }),
  );
  await supervisor.call("report");
  const [job, call] = seen as [Context, Context];
  assert.deepEqual([job.job, job.attempt, job.left, job.trace], ["j1", 2, 3, "00-1"]);
  assert.deepEqual([job.user.id, job.page.id, job.session.id], ["ada", "p|1", undefined]);
  assert.ok(job.remaining > 20_000 && job.deadline > performance.now());
  assert.deepEqual([call.job, call.attempt, call.left, call.user.id], [undefined, 1, 0, undefined]);
  assert.deepEqual(await call.user.send("x"), { reached: 0, held: 0 }, "there is no page to reach");
});

test("each way to end has its frame", async (t) => {
  const error = new TypeError("no such thing");
  const supervisor = await Supervisor.start(t, {
    nothing: () => undefined,
    wrong: () => ({ total: NaN }),
    large: () => "x".repeat(1 << 20),
    fail: () => Promise.reject(new Fail("no_stock", "sold out")),
    retry: () => Promise.reject(new Retry("closed", { afterMs: 1500 })),
    snooze: (ctx) => ctx.snooze(60_000),
    bug: () => Promise.reject(error),
    text: () => Promise.reject("just a text"),
    typed: [{ schema: { type: "object", required: ["n"] } }, () => null],
  });
  const { value } = await supervisor.call("nothing");
  assert.equal(value, null);
  const ends: [string, object][] = [
    ["wrong", { code: "failed", message: "the result of `wrong` is not JSON: total is NaN", retryable: false }],
    ["large", { code: "too_large", retryable: false }],
    ["fail", { code: "no_stock", message: "sold out", retryable: false }],
    ["retry", { code: "failed", message: "closed", retryable: true, after_ms: 1500 }],
    ["snooze", { t: "snooze", after_ms: 60_000 }],
    ["bug", { code: "failed", message: "TypeError: no such thing", retryable: true }],
    ["text", { code: "failed", message: "just a text", retryable: true }],
    ["typed", { code: "malformed", message: "`n` is missing", retryable: false }],
    ["unknown", { code: "no_executor", retryable: true }],
  ];
  for (const [method, expected] of ends) {
    const end = await supervisor.call(method);
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, end[name]])), expected, method);
  }
  const { trace } = await supervisor.call("bug");
  assert.match(String(trace), /TypeError: no such thing\n.*child\.test/s);
});

test("a cancel aborts the signal with its reason, and the work has stopped", async (t) => {
  const reasons: unknown[] = [];
  const supervisor = await Supervisor.start(t, {
    wait: async (ctx) => {
      ctx.signal.addEventListener("abort", () => reasons.push((ctx.signal.reason as Cancelled).reason, ctx.cancelled));
      ctx.progress(0);
      await untilCancelled(ctx);
    },
  });
  const id = supervisor.begin("wait");
  await supervisor.wait((message) => message.t === "progress");
  supervisor.cancel(id, "deadline");
  supervisor.cancel(id, "cancelled");
  assert.equal((await supervisor.end(id)).t, "stopped");
  assert.deepEqual(reasons, ["deadline", "deadline"], "the first one counts");
});

test("a handler that was cancelled cleans up, or has a result all the same", async (t) => {
  const answers = { "state.patch": () => ({ revision: 1 }) };
  const supervisor = await Supervisor.start(
    t,
    {
      clean: async (ctx) => {
        try {
          ctx.progress(0);
          await untilCancelled(ctx);
        } finally {
          await ctx.state.user.delete("lease");
        }
      },
      anyhow: async (ctx) => {
        ctx.progress(0);
        await untilCancelled(ctx).catch(() => undefined);
        return "done";
      },
    },
    answers,
  );
  for (const [method, end] of [
    ["clean", "stopped"],
    ["anyhow", "result"],
  ] as const) {
    const id = supervisor.begin(method);
    await supervisor.wait((message) => message.t === "progress" && message["id"] === id);
    supervisor.cancel(id);
    assert.equal((await supervisor.end(id)).t, end);
  }
  assert.equal(supervisor.of("request").length, 1);
});

test("a cancel ends a request that waits, and the next one is sent", async (t) => {
  const supervisor = await Supervisor.start(t, {
    ask: async (ctx) => {
      const reason: unknown = await ctx.call("slow").catch((error: unknown) => error);
      assert.ok(reason instanceof Cancelled);
      await ctx.jobs.cancel("j9");
      throw reason;
    },
  });
  const id = supervisor.begin("ask");
  const request = await supervisor.request("call");
  supervisor.cancel(id);
  supervisor.send({ t: "reply", id: request["id"], value: "too late" });
  const { id: second } = await supervisor.request("job.cancel");
  supervisor.send({ t: "reply", id: second, value: { state: "cancelled" } });
  assert.equal((await supervisor.end(id)).t, "stopped");
});

test("a handler without the signal is stopped by its next request, once", async (t) => {
  let go = (): void => undefined;
  const supervisor = await Supervisor.start(
    t,
    {
      late: async (ctx) => {
        ctx.progress(0);
        await new Promise<void>((resolve) => (go = resolve));
        await assert.rejects(ctx.page.send("x"), { name: "Cancelled", reason: "cancelled" });
        await ctx.send({ topic: "news" }, "x");
      },
    },
    { "push.send": () => ({ reached: 1, held: 0 }) },
  );
  const id = supervisor.begin("late", null, { page: "p|1" });
  await supervisor.wait((message) => message.t === "progress");
  supervisor.cancel(id);
  // the pong shows that the cancel has arrived
  supervisor.send({ t: "ping" });
  await supervisor.wait((message) => message.t === "pong");
  go();
  assert.equal((await supervisor.end(id)).t, "result");
  assert.deepEqual(
    supervisor.of("request").map((request) => request["params"]),
    [{ to: { topic: "news" }, payload: "x" }],
  );
});

test("track reports its progress and stops, also in a loop that never waits", async (t) => {
  const supervisor = await Supervisor.start(t, {
    count: async (ctx, { items }) => {
      let count = 0;
      for await (const item of ctx.track(Array.from({ length: items }, (_, index) => index)))
        count += item >= 0 ? 1 : 0;
      return count;
    },
    endless: async (ctx) => {
      const forever = (function* () {
        for (;;) yield 1;
      })();
      ctx.progress(0);
      for await (const _ of ctx.track(forever));
    },
  });
  assert.equal((await supervisor.call("count", { items: 50 }))["value"], 50);
  assert.equal(supervisor.of("progress").at(-1)?.["progress"], 1);
  const id = supervisor.begin("endless");
  await supervisor.wait((message) => message.t === "progress" && message["id"] === id);
  supervisor.cancel(id);
  assert.equal((await supervisor.end(id)).t, "stopped");
});

test("requests beyond 240 wait, and all are answered", async (t) => {
  let open = 0;
  let most = 0;
  const supervisor = await Supervisor.start(t, {
    many: async (ctx) => {
      const values = await Promise.all(Array.from({ length: 600 }, (_, number) => ctx.call<number>("echo", number)));
      return values.reduce((sum, value) => sum + value, 0);
    },
  });
  const id = supervisor.begin("many");
  const answered = new Set<unknown>();
  await supervisor.until(() => {
    const requests = supervisor.of("request").filter((request) => !answered.has(request["id"]));
    most = Math.max(most, (open = requests.length));
    if (open === 240 || supervisor.of("request").length === 600) {
      for (const { id, params } of requests) {
        answered.add(id);
        supervisor.send({ t: "reply", id, value: (params as { params: number }).params });
      }
    }
    return answered.size === 600;
  });
  assert.equal((await supervisor.end(id))["value"], (600 * 599) / 2);
  assert.equal(most, 240);
});

test("a request that cannot be sent is refused here, and one after the end is stale", async (t) => {
  let context!: Context;
  const supervisor = await Supervisor.start(t, { keep: (ctx) => void (context = ctx) });
  const id = supervisor.begin("keep");
  await supervisor.end(id);
  await assert.rejects(context.call("echo"), { code: "stale" });
  context.progress(0.5);
  const { value } = await supervisor.call("keep");
  assert.equal(value, null);
  assert.deepEqual(supervisor.of("progress"), []);
  const other = await Supervisor.start(t, {
    large: (ctx) => ctx.broadcast("x".repeat(1 << 20)),
    wrong: (ctx) => ctx.call("echo", { a: NaN }),
  });
  assert.equal((await other.call("large"))["code"], "too_large");
  assert.equal((await other.call("wrong"))["code"], "malformed");
  assert.deepEqual(other.of("request"), []);
});

test("a drained child ends its work, refuses more and finishes", async (t) => {
  let go = (): void => undefined;
  const supervisor = await Supervisor.start(t, {
    wait: (ctx) => (ctx.progress(0), new Promise<void>((resolve) => (go = resolve))),
  });
  const id = supervisor.begin("wait");
  await supervisor.wait((message) => message.t === "progress");
  supervisor.send({ t: "drain", within_ms: 1000 });
  const [call, job] = [supervisor.begin("wait"), supervisor.job("wait")];
  assert.equal((await supervisor.end(call))["code"], "unavailable");
  assert.deepEqual(await supervisor.end(job), { t: "snooze", id: job, after_ms: 0 });
  assert.deepEqual(supervisor.reports, []);
  go();
  assert.equal((await supervisor.end(id)).t, "result");
  await supervisor.until(() => supervisor.reports.length > 0);
  assert.deepEqual(supervisor.reports, ["finished"]);
});

test("a child is lost with its supervisor, and with a frame that breaks the rules", async (t) => {
  const gone = await Supervisor.start(t, { wait: () => new Promise(() => undefined) });
  gone.begin("wait");
  gone.hangUp();
  await gone.until(() => gone.reports.length > 0);
  assert.match(gone.reports[0] ?? "", /closed the socket/);
  const broken = await Supervisor.start(t, {});
  broken.write(pack("[]"));
  await broken.until(() => broken.reports.length > 0);
  assert.match(broken.reports[0] ?? "", /a frame without a type/);
});

test("lines of the log name their work, and whatever they have is written", async (t) => {
  const supervisor = await Supervisor.start(t, {
    log: (ctx) => {
      const circle: { self?: unknown } = {};
      circle.self = circle;
      ctx.log.info("paid", { amount: 3, big: 12n, circle, error: new Error("broken"), bad: NaN });
      ctx.log.warn("half \ud83d", { text: "x".repeat(100_000) });
    },
  });
  const id = supervisor.begin("log");
  await supervisor.end(id);
  const [first, second] = supervisor.of("log") as any[];
  assert.deepEqual([first["level"], first["message"], first["work"]], ["info", "paid", id]);
  const { amount, big, circle, error, bad } = first["fields"];
  assert.deepEqual([amount, big, bad], [3, "12n", "NaN"]);
  assert.match(circle + error, /Circular.*Error: broken/s);
  assert.deepEqual([second["message"], second["fields"]], ["half \ufffd", { dropped: "the fields are too large" }]);
});

test("an error of a request that a handler lets through is that of its work", async (t) => {
  const answers = {
    call: () => new Refusal("timeout", "too slow", true),
    "state.patch": () => new Refusal("conflict", "the tree is at revision 9"),
  };
  const handlers = {
    call: (ctx: Context) => ctx.call("slow"),
    state: (ctx: Context) => ctx.state.user.set("a", 1, { ifRevision: 8 }),
  };
  const supervisor = await Supervisor.start(t, handlers, answers);
  const timeout = await supervisor.call("call");
  assert.deepEqual([timeout["code"], timeout["retryable"]], ["timeout", true]);
  const conflict = await supervisor.call("state");
  assert.deepEqual([conflict["code"], conflict["retryable"]], ["conflict", true], "running again resolves it");
});
