// The handlers of `pagewire child check` (docs/child.md, "Conformance").
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { Fail, PagewireError, Retry, worker } from "pagewire/worker";

const app = worker();

async function slow(ctx, { ms }) {
  const end = performance.now() + ms;
  for (let left = ms; left > 0; left = end - performance.now()) {
    ctx.progress(1 - left / ms);
    await sleep(Math.min(50, left), undefined, { signal: ctx.signal });
  }
}

app.handle("check.echo", (ctx, { value }) => value);
app.handle("check.sleep", slow);
// the other style: without the signal, the handler asks whether it has to stop
app.handle("check.sleep_async", async (ctx, { ms }) => {
  for await (const part of ctx.track(Array.from({ length: ms / 10 }, (_, index) => index))) await sleep(10, part);
});
app.handle("check.fail", (ctx, { code, message, retryable, after_ms }) => {
  if (after_ms !== undefined) throw new Retry(message, { afterMs: after_ms });
  throw retryable ? new PagewireError(code, message, true) : new Fail(code, message);
});
app.handle("check.big", (ctx, { bytes }) => "x".repeat(bytes));
const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
app.handle("check.typed", { schema, returns: { type: "integer" } }, (ctx, { n }) => n);
app.handle("check.ask", async (ctx, { method, params }) => {
  try {
    return { value: await ctx.call(method, params) };
  } catch (error) {
    if (!(error instanceof PagewireError)) throw error;
    const { code, message, retryable } = error;
    return { error: { code, message, retryable } };
  }
});
app.handle("check.snooze", (ctx, { after_ms }) => ctx.snooze(after_ms));
app.handle("check.work", ({ job, attempt, left, trace, user, page, session, connection }) => {
  const owners = { user: user.id, page: page.id, session: session.id, connection: connection.id };
  return { job, attempt, left, trace, ...owners };
});
app.handle("check.log", (ctx, { level, message }) => ctx.log[level](message));
app.handle("check.print", (ctx, { lines }) => {
  for (let line = 0; line < lines; line++) (line % 2 ? console.log : console.error)("line", line);
});
app.handle("check.spawn", () => spawn("sleep", ["60"], { stdio: "ignore" }).pid);

app.run();
