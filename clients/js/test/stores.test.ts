// What the hooks for React show, without React.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Deferred } from "../src/deferred.js";
import { PagewireError } from "../src/error.js";
import { JobStore, PageStore, TreeStore } from "../src/react/stores.js";
import type { AnyPage } from "../src/react/types.js";

type Listener = (event: any) => void;

/** Events by their type, as a page, view or job has them. */
class Events {
  readonly listeners: [string, Listener][] = [];

  on(type: string, listener: Listener): () => void {
    this.listeners.push([type, listener]);
    return () => undefined;
  }

  fire(type: string, event: object = {}): void {
    for (const [wanted, listener] of this.listeners) if (wanted === type) listener(event);
  }
}

class FakeView extends Events {
  value: unknown;
  revision = 0;
  closed = false;
  readonly first = new Deferred<void>();
  readonly ready = this.first.promise;

  close(): void {
    this.closed = true;
  }
}

class FakeJob extends Events {
  readonly id = new Deferred<string>();
  readonly end = new Deferred<unknown>();
  readonly accepted = this.id.promise;
  readonly result = this.end.promise;
  cancelled = false;

  cancel(): void {
    this.cancelled = true;
  }
}

class FakePage extends Events {
  state = "connecting";
  registered: { user: string | null; node: string } | undefined;
  readonly views: FakeView[] = [];
  readonly jobs: FakeJob[] = [];
  readonly writes: unknown[] = [];

  get self(): AnyPage {
    return this as unknown as AnyPage;
  }

  watch(): FakeView {
    this.views.push(new FakeView());
    return this.views.at(-1) as FakeView;
  }

  job(): FakeJob {
    this.jobs.push(new FakeJob());
    return this.jobs.at(-1) as FakeJob;
  }

  async patch(...write: unknown[]): Promise<number> {
    return this.writes.push(write);
  }

  async set(...write: unknown[]): Promise<number> {
    return this.writes.push(write);
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("the state of a page is one value for all components", () => {
  const page = new FakePage();
  const store = PageStore.of(page.self);
  assert.equal(PageStore.of(page.self), store);
  let calls = 0;
  const stop = store.subscribe(() => (calls += 1));
  assert.equal(store.current(), store.current(), "the same object until it changes");
  page.state = "waiting";
  page.fire("state", { retry_at: 7 });
  assert.deepEqual([store.current().state, store.current().retryAt, store.current().user], ["waiting", 7, undefined]);
  [page.state, page.registered] = ["open", { user: "ada", node: "p01" }];
  page.fire("registered");
  assert.deepEqual([store.current().user, store.current().retryAt], ["ada", undefined]);
  page.fire("reset");
  page.fire("reset");
  assert.deepEqual([store.current().resets, calls], [2, 4]);
  stop();
  page.fire("reset");
  assert.deepEqual([store.current().resets, calls], [3, 4], "it goes on without components");
});

test("a path is watched while a component shows it, and an older watch changes nothing", async () => {
  const page = new FakePage();
  const store = new TreeStore(page.self, "session", "form");
  assert.equal(page.views.length, 0);
  const stops = [store.subscribe(() => undefined), store.subscribe(() => undefined)];
  const [first] = page.views as [FakeView];
  [first.value, first.revision] = ["Ada", 3];
  first.first.resolve();
  await settled();
  const { value, revision, ready } = store.current();
  assert.deepEqual([value, revision, ready, page.views.length], ["Ada", 3, true, 1]);
  stops[0]?.();
  assert.equal(first.closed, false);
  stops[1]?.();
  assert.equal(first.closed, true);
  store.subscribe(() => undefined);
  first.value = "late";
  first.fire("change");
  assert.equal(store.current().value, "Ada");
  page.views[1]?.first.reject(new PagewireError("forbidden", "no"));
  await settled();
  assert.equal(store.current().error?.code, "forbidden");
});

test("a path that the page may not watch any more has an error and no value", async () => {
  const page = new FakePage();
  const store = new TreeStore(page.self, "user", "form");
  const stop = store.subscribe(() => undefined);
  const [first] = page.views as [FakeView];
  [first.value, first.revision] = ["Ada", 3];
  first.first.resolve();
  await settled();
  first.fire("error", new PagewireError("forbidden", "no"));
  const { value, revision, ready, error } = store.current();
  assert.deepEqual([value, revision, ready, error?.code], [undefined, 0, false, "forbidden"]);
  stop();
  store.subscribe(() => undefined);
  first.fire("error", new PagewireError("stale", "no"));
  assert.equal(store.current().error?.code, "forbidden", "an older watch changes nothing");
});

test("writes are below the path of the hook", async () => {
  const page = new FakePage();
  const store = new TreeStore(page.self, "user", "form");
  await store.current().set("", 1);
  await store.current().set("name", "Ada", { if_revision: 2 });
  await store.current().delete("name");
  await new TreeStore(page.self, "user", "").current().set("a", 1);
  assert.deepEqual(page.writes, [
    ["user", "form", 1, undefined],
    ["user", "form.name", "Ada", { if_revision: 2 }],
    ["user", [{ path: "form.name", delete: true }], undefined],
    ["user", "a", 1, undefined],
  ]);
});

test("the last job is shown, from its submission to its end", async () => {
  const page = new FakePage();
  const store = new JobStore(page.self, "report");
  assert.equal(store.current().state, "idle");
  const job = store.current().submit({ month: 3 });
  const [first] = page.jobs as [FakeJob];
  assert.equal(job as unknown, first);
  assert.equal(store.current().state, "submitted");
  first.id.resolve("j1");
  await settled();
  first.fire("progress", { progress: 0.5, message: "half" });
  const { state, id, progress, message } = store.current();
  assert.deepEqual([state, id, progress, message], ["running", "j1", 0.5, "half"]);
  store.current().submit();
  first.end.resolve("late");
  await settled();
  assert.deepEqual([store.current().state, store.current().result], ["submitted", undefined]);
  store.current().cancel();
  const second = page.jobs[1] as FakeJob;
  assert.deepEqual([first.cancelled, second.cancelled], [false, true]);
  second.end.reject(new PagewireError("cancelled", "no", false, "cancelled"));
  second.id.reject(new PagewireError("cancelled", "no"));
  await settled();
  assert.deepEqual([store.current().state, store.current().error?.code], ["cancelled", "cancelled"]);
});

test("a job that never began has failed, and one that ended has its result", async () => {
  const page = new FakePage();
  const store = new JobStore(page.self, "report");
  store.current().submit();
  page.jobs[0]?.end.reject(new PagewireError("forbidden", "no"));
  page.jobs[0]?.id.reject(new PagewireError("forbidden", "no"));
  await settled();
  assert.deepEqual([store.current().state, store.current().error?.code], ["failed", "forbidden"]);
  store.current().submit();
  page.jobs[1]?.id.resolve("j2");
  page.jobs[1]?.end.resolve({ rows: 3 });
  await settled();
  const { state, result, progress, error } = store.current();
  assert.deepEqual([state, result, progress, error], ["succeeded", { rows: 3 }, 1, undefined]);
});
