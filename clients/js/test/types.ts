// Compiled, never run: the checked-in declarations say what a typed application relies on.
import {
  Pagewire,
  PagewireError,
  type Delivery,
  type Job,
  type JobEnd,
  type Registered,
  type State,
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
  // @ts-expect-error a target has one of four names
  await page.send({ tab: "ada" }, { sum });
  const { signal } = new AbortController();
  await page.call("hash", { rounds: 1 }, { pool: "cpu", signal });
  const job: Job<string> = page.job<string>("hash", { rounds: 1 }, { retries: 2, run_at: new Date(), exec_mode: "any" });
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

function show(...values: unknown[]): void {
  console.log(...values);
}
