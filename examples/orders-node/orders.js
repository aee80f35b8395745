// The handlers of the board: orders in the state tree of their user, and a report as a job.
//
// Run by Pagewire as `node orders.js`; it knows neither pages nor sockets.
import { setTimeout as sleep } from "node:timers/promises";
import { Fail, worker } from "pagewire/worker";

const STATUSES = ["new", "packed", "sent"];
const ORDER = {
  type: "object",
  properties: { item: { type: "string" }, count: { type: "integer" } },
  required: ["item"],
};
const STORED = {
  type: "object",
  properties: {
    number: { type: "integer" },
    item: { type: "string" },
    count: { type: "integer" },
    status: { enum: STATUSES },
  },
  required: ["number", "item", "count", "status"],
};

const app = worker();

app.handle(
  "list_orders",
  { doc: "Returns the orders of the user by their number.", returns: { type: "object", additionalProperties: STORED } },
  (ctx) => ctx.state.user.get("orders", {}),
);

app.handle(
  "add_order",
  {
    doc: "Adds an order, and notifies all pages of the user. They watch the tree and show it.",
    schema: { type: "object", properties: { order: ORDER }, required: ["order"] },
    returns: STORED,
  },
  async (ctx, { order }) => {
    const { item, count = 1 } = order;
    if (!ctx.user.id) throw new Fail("forbidden", "log in first: orders belong to a user");
    if (!item.trim() || count < 1 || count > 99) {
      throw new Fail("malformed", "an order has an item, and a count from 1 to 99");
    }
    let added;
    // called again if another page was first
    await ctx.state.user.update((tree) => {
      const number = tree.get("next", 1);
      added = { number, item: item.trim(), count, status: "new" };
      tree.set("next", number + 1);
      tree.set(`orders.${number}`, added);
    });
    await ctx.user.send({ note: `Order ${added.number} is new: ${count} × ${added.item}` });
    return added;
  },
);

app.handle(
  "move_order",
  {
    doc: "Moves an order to another column.",
    schema: {
      type: "object",
      properties: { number: { type: "integer" }, status: { enum: STATUSES } },
      required: ["number", "status"],
    },
    returns: { type: "null" },
  },
  async (ctx, { number, status }) => {
    await ctx.state.user.update((tree) => {
      if (!tree.has(`orders.${number}`)) throw new Fail("not_found", `there is no order ${number}`);
      tree.set(`orders.${number}.status`, status);
    });
    await ctx.user.send({ note: `Order ${number} is ${status}` });
  },
);

app.handle(
  "report",
  {
    doc: "Counts the orders by their status; slow on purpose, to show progress, cancelling and a new attempt.",
    timeoutMs: 120_000,
    retries: 3,
    schema: { type: "object", properties: { seconds: { type: "number" } } },
    returns: { type: "object", additionalProperties: { type: "integer" } },
  },
  async (ctx, { seconds = 4 }) => {
    const steps = Array.from({ length: Math.max(1, Math.round(seconds * 20)) }, (_, step) => step);
    for await (const _ of ctx.track(steps)) await sleep(50);
    const orders = Object.values(await ctx.state.user.get("orders", {}));
    const counts = STATUSES.map((status) => [status, orders.filter((order) => order.status === status).length]);
    return { orders: orders.length, attempt: ctx.attempt, ...Object.fromEntries(counts) };
  },
);

await app.run();
