// A program whose handlers have requests that no code waits for when their work is cancelled.
import { setTimeout as sleep } from "node:timers/promises";
import { worker } from "pagewire/worker";

const app = worker();
app.handle("between", async (ctx) => {
  void ctx.broadcast("forgotten");
  while (!ctx.cancelled) await sleep(5);
  await sleep(20);
  await ctx.call("next");
});
app.handle("both", async (ctx) => {
  void ctx.broadcast("forgotten");
  await ctx.call("next").catch(() => undefined);
  await sleep(20);
  await ctx.call("clean_up");
  return "clean";
});
app.run();
