// Compiled, never run: the checked-in declarations say what typed handlers rely on.
import { Cancelled, Conflict, Fail, PagewireError, Retry, worker, type Context, type Lock } from "../dist/worker.js";

const app = worker({ slots: 4 });

const schema = {
  type: "object",
  properties: {
    month: { type: "string" },
    lines: { type: "array", items: { type: "object", properties: { price: { type: "number" } } } },
    status: { enum: ["new", "sent"] },
    note: { type: ["string", "null"] },
  },
  required: ["month", "note"],
} as const;

app
  .handle(
    "report",
    { mode: "assigned", retries: 5, timeoutMs: 600_000, serial: "user", schema },
    async (ctx, params) => {
      const month: string = params.month;
      const price: number | undefined = params.lines?.[0]?.price;
      const status: "new" | "sent" | undefined = params.status;
      const note: string | null = params.note;
      // @ts-expect-error the schema has no such member
      params.year;
      for await (const row of ctx.track([1, 2, 3])) ctx.progress(row satisfies number);
      await ctx.page.send({ month, price, status, note });
      await effects(ctx);
    },
  )
  .handle<{ q: string }, string[]>("search", async (ctx, { q }) => [q satisfies string, ctx.method])
  .handle("untyped", (ctx, params) => params.anything ?? ctx.user.id);

// @ts-expect-error there is no such mode
app.handle("wrong", { mode: "all" }, () => null);
// @ts-expect-error the time is in milliseconds
app.handle("wrong", { timeout: 60 }, () => null);
void app.run();

async function effects(ctx: Context): Promise<void> {
  const reached: number = (await ctx.send({ topic: "news" }, "hello")).reached;
  // @ts-expect-error a target has one of six names
  await ctx.send({ tab: "ada" }, "hello");
  const name = await ctx.state.user.get<string>("wizard.name");
  const revision: number = await ctx.state
    .of("page", "p|1")
    .update((tree) => tree.set("count", tree.get("count", 0) + 1));
  await ctx.state.session.set("name", name, { ifRevision: revision });
  const job: string = await ctx.jobs.submit("report", { month: "2026-03" }, { delayMs: 1000, key: "report-2026-03" });
  const total = await ctx.call<number>("total", [reached], { timeoutMs: 500, user: null });
  await using lock: Lock = await ctx.lock("stock", { ttlMs: 10_000, waitMs: 500 });
  if (!lock.held) throw new Retry("the lock was lost", { afterMs: 1000 });
  ctx.signal.addEventListener("abort", () =>
    ctx.log.info("stops", { why: ctx.cancelled, job, total, token: lock.token }),
  );
  if (total > 3) throw new Fail("no_stock", "sold out");
  ctx.snooze(60_000);
}

export function retryable(error: unknown): boolean {
  if (error instanceof Cancelled) return error.reason === "drain";
  return error instanceof Conflict || (error instanceof PagewireError && error.retryable);
}
