// Compiled, never run: the checked-in declarations say what a typed application relies on.
import {
  escape,
  join,
  Pagewire,
  PagewireError,
  split,
  type Change,
  type Delivery,
  type Edit,
  type Job,
  type JobEnd,
  type Level,
  type Reading,
  type Registered,
  type ResidentNews,
  type State,
  type Subscription,
  type View,
} from "../dist/pagewire.js";

export async function application(): Promise<void> {
  const page = new Pagewire({ token: async () => "jwt", backoff: { base_ms: 100 } });
  const stop: () => void = page.on("state", ({ state, retry_at }) => show(state, retry_at));
  page.on("message", ({ payload, seq, from }) => show(payload, seq, from));
  page.on("error", (error: PagewireError) => show(error.code, error.retryable));
  // @ts-expect-error no such event
  page.on("mesage", show);
  const registered: Registered = await page.connect();
  const sum: number = await page.call<number>("sum", [1, 2], { timeout_ms: 500, exec_mode: "inline" });
  const delivery: Delivery = await page.send({ user: "ada" }, { sum });
  // @ts-expect-error a target has one of five names
  await page.send({ tab: "ada" }, { sum });
  const { signal } = new AbortController();
  await page.call("hash", { rounds: 1 }, { pool: "cpu", signal });
  const job: Job<string> = page.job<string>(
    "hash",
    { rounds: 1 },
    { retries: 2, run_at: new Date(), exec_mode: "any" },
  );
  job.on("progress", ({ progress, message }) => show(progress, message));
  const id: string = await job.accepted;
  const hash: string = await job.result.catch((error: PagewireError) => error.message);
  page.on("job", ({ job, state, error }) => show(job, state satisfies JobEnd | undefined, error?.code));
  job.cancel();
  // @ts-expect-error a job is not settled from outside
  job.fail(new Error(id + hash));
  const state: State = page.state;
  show(registered.page_id, delivery.reached, state);
  stop();
  page.close();
}

export async function trees(page: Pagewire, level: Level): Promise<number> {
  const form: View<{ name: string }> = page.watch<{ name: string }>("session", "wizard.form");
  await form.ready;
  const stop: () => void = form.on("change", ({ changes, from, own }) => {
    changes.forEach((change: Change) => show(split(change.path), "delete" in change ? change.delete : change.value));
    show(from satisfies string | undefined, own satisfies boolean);
  });
  form.on("removed", () => show(form.value?.name, form.revision));
  form.on("error", ({ code }) => show(code));
  const revision: number = await form.set(join("name", escape("a.b")), "Ada", { if_revision: form.revision });
  const edits: Edit[] = [
    { path: "name", value: null },
    { path: "age", delete: true },
  ];
  // @ts-expect-error an edit is a value or a deletion
  edits.push({ path: "name" });
  const { value }: Reading<string[]> = await page.get<string[]>(level, "a.#0");
  // @ts-expect-error a view shows what the server says
  form.value = value;
  // @ts-expect-error there is no such level
  await page.set("world", "a", 1);
  stop();
  form.close();
  return Math.max(revision, await form.patch(edits), await form.delete("age"), await page.patch(level, edits));
}

export async function topics(page: Pagewire): Promise<void> {
  const room: Subscription = page.subscribe("room.7", { token: async () => "jwt" });
  await room.ready;
  const stop: () => void = room.on("message", ({ payload, from, topic }) => show(payload, from, topic, room.topic));
  room.on("error", ({ code, retryable }) => show(code, retryable));
  const { reached }: Delivery = await room.send({ text: "hello" });
  await page.send({ topic: "news" }, reached);
  // @ts-expect-error a token is asked for each time
  page.subscribe("room.8", { token: "jwt" });
  // @ts-expect-error a subscription is not settled from outside
  room.refuse();
  stop();
  await room.close();
}

/** What `pagewire types --ts` writes. */
interface Api {
  report: { params: { month: string } | [string]; result: { rows: number } };
  "orders.list": { params: Record<string, never> | [] | null; result: string[] };
  anything: { params: unknown; result: unknown };
  "Counter.add": { params: { by?: number } | [number?] | null; result: { n: number } };
  "Counter.rename": { params: { name: string }; result: null };
  "Form.rename": { params: { title: string }; result: string };
}

export async function typed(page: Pagewire<Api>, untyped: Pagewire): Promise<void> {
  const { rows }: { rows: number } = await page.call("report", { month: "2026-03" }, { timeout_ms: 500 });
  const report: Job<{ rows: number }> = page.job("report", ["2026-03"], { retries: 2 });
  const orders: string[] = await page.call("orders.list");
  const none: unknown = await page.call("anything");
  // @ts-expect-error there is no such handler
  await page.call("reports", { month: "2026-03" });
  // @ts-expect-error a month is a text
  await page.call("report", { month: 3 });
  // @ts-expect-error the parameters are missing
  await page.call("report");
  // @ts-expect-error the result has no such member
  show((await page.call("report", { month: "" })).lines);
  // @ts-expect-error a map names the parameters and the result
  new Pagewire<{ report: { params: string } }>();
  const [sum, text]: [number, unknown] = [await untyped.call<number>("sum", [1]), await untyped.call("text")];
  untyped = page satisfies Pagewire as Pagewire;
  show(rows, report, orders, none, sum, text, new Pagewire<Api>().state, untyped);
}

export async function resident(): Promise<void> {
  const page = new Pagewire<Api>({ resident: { class: "Counter", pool: "site" } });
  page.on("resident", ({ class: name, state, why }: ResidentNews) =>
    show(name, state satisfies "open" | "restored" | "rebuilt", why satisfies string | undefined),
  );
  const { n }: { n: number } = await page.object.call("add", { by: 2 }, { timeout_ms: 500 });
  const again: { n: number } = await page.object.call("add");
  const renamed: string | null = await page.object.call("rename", { title: "" });
  show(n, again, renamed, await page.call("Counter.add", [1]), page.object.resident?.class);
  // @ts-expect-error no class has such a method
  await page.object.call("reset");
  // @ts-expect-error a handler is no method of an object
  await page.object.call("report", { month: "2026-03" });
  // @ts-expect-error a number is not a text
  await page.object.call("add", { by: "2" });
  const untyped = new Pagewire({ resident: "Counter" });
  const value: number = await untyped.object.call<number>("add", { by: 2 });
  show(value);
}

function show(...values: unknown[]): void {
  console.log(...values);
}
