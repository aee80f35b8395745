// The handlers of the page.
import { setTimeout as sleep } from "node:timers/promises";
import { worker } from "pagewire/worker";

const app = worker();

const name = { type: "object", properties: { name: { type: "string", minLength: 1 } }, required: ["name"] };
app.handle("greet", { doc: "Greets.", schema: name, returns: { type: "string" } }, (ctx, { name }) => `hello ${name}`);

const count = { type: "object", properties: { to: { type: "integer" } }, required: ["to"] };
const counted = { type: "object", properties: { counted: { type: "integer" } }, required: ["counted"] };
app.handle("count", { doc: "Counts slowly.", schema: count, returns: counted }, async (ctx, { to }) => {
  for await (const step of ctx.track(Array.from({ length: to }, (_, step) => step))) await sleep(20, step);
  return { counted: to };
});

await app.run();
