// What the hooks show, without React: each store has a value that is replaced as a whole, and listeners.

import type { Edit, Job, JobOptions, Level, PagewireError, StateChange, View, WriteOptions } from "pagewire";
import type { AnyPage, JobStatus, PageStatus, TreeStatus } from "./types.js";

/** A value that changes. `subscribe` and `current` are bound, as React calls them. */
abstract class Store<Value> {
  readonly #listeners = new Set<() => void>();
  #value: Value;

  constructor(value: Value) {
    this.#value = value;
  }

  readonly current = (): Value => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.used();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.unused();
    };
  };

  /** Called with the first listener. */
  protected used(): void {}

  /** Called after the last listener. */
  protected unused(): void {}

  protected update(change: Partial<Value>): void {
    this.#value = { ...this.#value, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
}

/** The state of a page. It follows the page from its creation on. */
export class PageStore extends Store<PageStatus<any>> {
  static readonly #stores = new WeakMap<AnyPage, PageStore>();

  /** Returns the store of a page, which all components share. */
  static of(page: AnyPage): PageStore {
    const known = this.#stores.get(page) ?? new PageStore(page);
    this.#stores.set(page, known);
    return known;
  }

  constructor(page: AnyPage) {
    const { registered, state } = page;
    super({ page, state, registered, user: registered?.user ?? undefined, retryAt: undefined, resets: 0 });
    const follow = ({ retry_at }: Partial<StateChange> = {}): void => {
      const now = page.registered;
      this.update({ state: page.state, registered: now, user: now?.user ?? undefined, retryAt: retry_at });
    };
    page.on("state", follow);
    page.on("registered", () => follow());
    page.on("identity", () => follow());
    page.on("address", () => follow());
    page.on("reset", () => this.update({ resets: this.current().resets + 1 }));
  }
}

/** A path of a tree, which is watched while a component shows it. */
export class TreeStore extends Store<TreeStatus<any>> {
  readonly #page: AnyPage;
  #view: View | undefined;

  constructor(page: AnyPage, level: Level, path: string) {
    const place = (below: string): string => [path, below].filter((part) => part !== "").join(".");
    const patch = (edits: readonly Edit[], options?: WriteOptions): Promise<number> =>
      page.patch(
        level,
        edits.map((edit) => ({ ...edit, path: place(edit.path) })),
        options,
      );
    super({
      level,
      path,
      value: undefined,
      revision: 0,
      ready: false,
      error: undefined,
      set: (below, value, options) => page.set(level, place(below), value, options),
      delete: (below, options) => patch([{ path: below, delete: true }], options),
      patch,
    });
    this.#page = page;
  }

  protected override used(): void {
    const { level, path } = this.current();
    const view = this.#page.watch(level, path);
    this.#view = view;
    const show = (): void => {
      if (view === this.#view)
        this.update({ value: view.value, revision: view.revision, ready: true, error: undefined });
    };
    view.on("change", show);
    view.on("removed", show);
    // also later, when the page may not watch the path any more
    const refuse = (error: PagewireError): void => {
      if (view === this.#view) this.update({ value: undefined, revision: 0, ready: false, error });
    };
    view.on("error", refuse);
    view.ready.then(show, refuse);
  }

  protected override unused(): void {
    this.#view?.close();
    this.#view = undefined;
  }
}

const NO_JOB = {
  state: "idle",
  id: undefined,
  progress: 0,
  message: undefined,
  result: undefined,
  error: undefined,
} as const;

/** The last job that a component has submitted. */
export class JobStore extends Store<JobStatus<any, any>> {
  readonly #page: AnyPage;
  readonly #kind: string;
  #job: Job | undefined;

  constructor(page: AnyPage, kind: string) {
    super({ ...NO_JOB, submit: (data, options) => this.#submit(data, options), cancel: () => this.#job?.cancel() });
    this.#page = page;
    this.#kind = kind;
  }

  #submit(data: unknown, options?: JobOptions): Job<any> {
    const job: Job<any> = this.#page.job(this.#kind, data, options);
    this.#job = job;
    const show = (change: Partial<JobStatus>): void => {
      if (job === this.#job) this.update(change);
    };
    show({ ...NO_JOB, state: "submitted" });
    job.on("progress", ({ progress, message }) => show({ state: "running", progress, message }));
    // a job that never began has no id; the reason is that of its result
    job.accepted.then((id) => show({ state: "running", id })).catch(() => undefined);
    job.result.then(
      (result: unknown) => show({ state: "succeeded", result, progress: 1 }),
      (error: PagewireError) => show({ state: error.state ?? "failed", error }),
    );
    return job;
  }
}
