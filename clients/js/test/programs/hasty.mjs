// A program whose handlers do not wait for what they have begun.
import { setTimeout as sleep } from "node:timers/promises";
import { worker } from "pagewire/worker";

const app = worker();
app.handle("hasty", (ctx) => {
  void ctx.page.send("one");
  void ctx.broadcast("two");
  return sleep(50, "done");
});
app.handle("careless", async () => {
  void Promise.reject(new Error("a bug of the handler"));
  await sleep(60_000);
});
app.run();
