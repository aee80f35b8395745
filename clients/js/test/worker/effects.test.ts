// The requests of handlers: state trees, jobs and locks.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Context, Lock } from "../../src/worker/types.js";
import { Refusal, Supervisor } from "./supervisor.js";

/** A supervisor with one tree, whose writer is refused for the first `conflicts` writes. */
async function withTree(
  t: Parameters<typeof Supervisor.start>[0],
  run: (ctx: Context) => unknown,
  conflicts = 0,
): Promise<Supervisor> {
  let revision = 8;
  const answers = {
    "state.get": ({ path }: { path?: string }) =>
      path === "missing" ? { revision } : { value: path ? "Ada" : { count: revision }, revision },
    "state.patch": () => (conflicts-- > 0 ? ((revision += 1), new Refusal("conflict")) : { revision: ++revision }),
  };
  return Supervisor.start(t, { run }, answers);
}

const patches = (supervisor: Supervisor): unknown[] =>
  supervisor
    .of("request")
    .filter(({ method }) => method === "state.patch")
    .map(({ params }) => params);

test("a tree is read and written", async (t) => {
  const supervisor = await withTree(t, async (ctx) => [
    await ctx.state.user.get("name"),
    await ctx.state.user.get("missing", "nobody"),
    await ctx.state.session.read("missing"),
    await ctx.state.of("page", "p|1").set("a", 1, { ifRevision: 8 }),
    await ctx.state.connection.delete("b"),
  ]);
  const { value } = await supervisor.call("run");
  assert.deepEqual(value, ["Ada", "nobody", { revision: 8 }, 9, 10]);
  const places = supervisor.of("request").map(({ params }) => params);
  assert.deepEqual(places, [
    { level: "user", path: "name" },
    { level: "user", path: "missing" },
    { level: "session", path: "missing" },
    { level: "page", id: "p|1", changes: [{ path: "a", value: 1 }], if_revision: 8 },
    { level: "connection", changes: [{ path: "b", delete: true }] },
  ]);
});

test("an edit is written at the revision that it has read, or not at all", async (t) => {
  const supervisor = await withTree(t, (ctx) =>
    ctx.state.user.edit((tree) => tree.set("count", tree.get<number>("count") + 1)),
  );
  assert.equal((await supervisor.call("run"))["value"], 9);
  assert.deepEqual(patches(supervisor), [{ level: "user", changes: [{ path: "count", value: 9 }], if_revision: 8 }]);

  const refused = await withTree(t, (ctx) => ctx.state.user.edit((tree) => tree.set("count", 1)), 1);
  assert.equal((await refused.call("run"))["code"], "conflict");
  const thrown = await withTree(t, (ctx) => ctx.state.user.edit(() => Promise.reject(new Error("no"))));
  assert.equal((await thrown.call("run"))["code"], "failed");
  assert.deepEqual(patches(thrown), []);
  const unchanged = await withTree(t, (ctx) => ctx.state.user.edit(() => undefined));
  assert.equal((await unchanged.call("run"))["value"], 8);
  assert.deepEqual(patches(unchanged), []);
});

test("an update is made again after each conflict", async (t) => {
  const seen: number[] = [];
  const change = (ctx: Context): Promise<number> =>
    ctx.state.user.update((tree) => {
      seen.push(tree.get("count"));
      tree.set("count", tree.get<number>("count") + 1);
    });
  const supervisor = await withTree(t, change, 3);
  assert.equal((await supervisor.call("run"))["value"], 12);
  assert.deepEqual(seen, [8, 9, 10, 11]);
  const conflict = await withTree(t, change, 1000);
  assert.equal((await conflict.call("run"))["code"], "conflict", "not for ever");
});

test("jobs are submitted, read and cancelled", async (t) => {
  const answers = {
    "job.submit": () => ({ job: "j7" }),
    "job.get": () => ({ id: "j7", kind: "report", state: "running", attempts: 1 }),
    "job.cancel": () => ({ state: "cancelled" }),
  };
  const run = async (ctx: Context): Promise<unknown[]> => {
    const job = await ctx.jobs.submit("report", { month: 3 }, { delayMs: 10, user: null });
    return [job, (await ctx.jobs.get(job)).state, await ctx.jobs.cancel(job)];
  };
  const supervisor = await Supervisor.start(t, { run }, answers);
  assert.deepEqual((await supervisor.call("run"))["value"], ["j7", "running", "cancelled"]);
  const submitted = await supervisor.request("job.submit");
  assert.deepEqual(submitted["params"], { kind: "report", data: { month: 3 }, user: null, run_in_ms: 10 });
});

test("a lock is renewed while it is held and released at the end of its block", async (t) => {
  let renewals = 0;
  const answers = {
    "lock.acquire": () => ({ token: 12, ttl_ms: 900 }),
    "lock.renew": () => ((renewals += 1), { ttl_ms: 900 }),
    "lock.release": () => ({}),
  };
  const run = async (ctx: Context): Promise<unknown[]> => {
    const seen: unknown[] = [];
    let kept: Lock;
    {
      await using lock = await ctx.lock("stock", { ttlMs: 900, waitMs: 5 });
      kept = lock;
      while (renewals < 2) await new Promise((later) => setTimeout(later, 5));
      seen.push(lock.token, lock.held);
    }
    await kept.release();
    return [...seen, kept.held];
  };
  const supervisor = await Supervisor.start(t, { run }, answers);
  assert.deepEqual((await supervisor.call("run"))["value"], [12, true, false]);
  const [acquired] = supervisor.of("request");
  assert.deepEqual(acquired?.["params"], { name: "stock", ttl_ms: 900, wait_ms: 5 });
  const releases = supervisor.of("request").filter(({ method }) => method === "lock.release");
  assert.deepEqual(
    releases.map(({ params }) => params),
    [{ name: "stock", token: 12 }],
    "once",
  );
});

test("a lock is released after a cancel, also while its renewal has no answer", async (t) => {
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((later) => setTimeout(later, 5));
  };
  const locked = async (ctx: Context, run: () => Promise<void>): Promise<void> => {
    const lock = await ctx.lock("stock", { ttlMs: 900 });
    try {
      await run();
    } finally {
      await lock.release();
    }
  };
  const answers = { "lock.acquire": () => ({ token: 12, ttl_ms: 900 }), "lock.release": () => ({}) };
  const supervisor = await Supervisor.start(
    t,
    {
      // while its renewal has no answer
      renewed: (ctx) =>
        locked(ctx, async () => {
          await until(() => ctx.cancelled !== undefined);
          ctx.check();
        }),
      // whose next request is the release
      deaf: (ctx) => locked(ctx, () => until(() => ctx.cancelled !== undefined)),
    },
    answers,
  );
  const releases = (): unknown[] => supervisor.of("request").filter(({ method }) => method === "lock.release");
  const renewed = supervisor.begin("renewed");
  await supervisor.request("lock.renew");
  supervisor.cancel(renewed);
  assert.equal((await supervisor.end(renewed)).t, "stopped");
  assert.equal(releases().length, 1);
  const deaf = supervisor.begin("deaf");
  await supervisor.until(() => supervisor.of("request").filter(({ method }) => method === "lock.acquire").length === 2);
  supervisor.cancel(deaf);
  assert.equal((await supervisor.end(deaf)).t, "result");
  assert.equal(releases().length, 2);
});

test("a lock that another holder has is not held", async (t) => {
  const answers = {
    "lock.acquire": () => ({ token: 12, ttl_ms: 30 }),
    "lock.renew": () => new Refusal("stale"),
    "lock.release": () => ({}),
  };
  const run = async (ctx: Context): Promise<boolean> => {
    const lock = await ctx.lock("stock");
    while (lock.held) await new Promise((later) => setTimeout(later, 5));
    await lock.release();
    return lock.held;
  };
  const supervisor = await Supervisor.start(t, { run }, answers);
  assert.equal((await supervisor.call("run"))["value"], false);
  supervisor.answers["lock.acquire"] = () => new Refusal("locked");
  assert.equal((await supervisor.call("run"))["code"], "locked");
});
