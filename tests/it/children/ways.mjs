// Handlers of the tests in Node: what they see, and what they do to pages, trees, jobs and locks. Like ways.py.
import { appendFile, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Fail, PagewireError, Retry, worker } from "../../../clients/js/dist/worker.js";

const app = worker();

app.handle("who", (ctx) => ({ pid: process.pid, user: ctx.user.id, job: ctx.job, page: ctx.page.id }));
app.handle("add", (ctx, { left, right }) => left + right);

app.handle("nap", { retries: 3 }, async (ctx, { ms = 1000 }) => {
  for await (const step of ctx.track(Array.from({ length: ms / 20 }, (_, step) => step))) await sleep(20, step);
  return process.pid;
});

app.handle("remember", async (ctx, { text }) => {
  await ctx.state.user.edit((tree) => tree.set("notes.last", text));
  const revision = await ctx.state.session.set("notes.session", text);
  const page = await ctx.page.send({ page: text });
  const user = await ctx.user.send({ user: text });
  return { revision, page: page.reached, user: user.reached };
});

app.handle("count", async (ctx) => {
  await ctx.state.user.update((tree) => tree.set("count", tree.get("count", 0) + 1));
  return ctx.state.user.get("count");
});

app.handle("delegate", async (ctx) => {
  const total = await ctx.call("add", { left: 3, right: 4 });
  const job = await ctx.jobs.submit("add", { left: total, right: 1 });
  return { total, job, state: (await ctx.jobs.get(job)).state };
});

app.handle("reserve", async (ctx, { file, ms = 200, wait = 10_000 }) => {
  const lock = await ctx.lock("shelf", { waitMs: wait });
  try {
    for (const word of ["begin", "end"]) {
      await appendFile(file, `${word} ${process.pid} ${lock.token}\n`);
      await sleep(ms);
    }
    return lock.token;
  } finally {
    await lock.release();
  }
});

app.handle("later", { retries: 2 }, async (ctx, { file }) => {
  await appendFile(file, `${ctx.attempt}\n`);
  const begun = (await readFile(file, "utf8")).split("\n").length - 1;
  if (begun <= 2) ctx.snooze(50);
  if (begun === 3) throw new Retry("not yet", { afterMs: 50 });
  return { begun, attempt: ctx.attempt };
});

app.handle("refuse", { retries: 5 }, () => {
  throw new Fail("sold_out", "nothing is left");
});

app.handle("peek", async (ctx, { user }) => {
  try {
    await ctx.state.of("user", user).set("a..b", 1);
  } catch (error) {
    if (error instanceof PagewireError) return error.code;
    throw error;
  }
  return "none";
});

await app.run();
