// Pagewire's hooks for React, built from clients/js/src: do not edit. Apache-2.0

// src/react/hooks.ts
import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from "react";

// src/react/stores.ts
var Store = class {
  #listeners = /* @__PURE__ */ new Set();
  #value;
  constructor(value) {
    this.#value = value;
  }
  current = () => this.#value;
  subscribe = (listener) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.used();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.unused();
    };
  };
  /** Called with the first listener. */
  used() {
  }
  /** Called after the last listener. */
  unused() {
  }
  update(change) {
    this.#value = { ...this.#value, ...change };
    for (const listener of [...this.#listeners]) listener();
  }
};
var PageStore = class _PageStore extends Store {
  static #stores = /* @__PURE__ */ new WeakMap();
  /** Returns the store of a page, which all components share. */
  static of(page) {
    const known = this.#stores.get(page) ?? new _PageStore(page);
    this.#stores.set(page, known);
    return known;
  }
  constructor(page) {
    const { registered, state } = page;
    super({ page, state, registered, user: registered?.user ?? void 0, retryAt: void 0, resets: 0 });
    const follow = ({ retry_at } = {}) => {
      const now = page.registered;
      this.update({ state: page.state, registered: now, user: now?.user ?? void 0, retryAt: retry_at });
    };
    page.on("state", follow);
    page.on("registered", () => follow());
    page.on("identity", () => follow());
    page.on("address", () => follow());
    page.on("reset", () => this.update({ resets: this.current().resets + 1 }));
  }
};
var TreeStore = class extends Store {
  #page;
  #view;
  constructor(page, level, path) {
    const place = (below) => [path, below].filter((part) => part !== "").join(".");
    const patch = (edits, options) => page.patch(
      level,
      edits.map((edit) => ({ ...edit, path: place(edit.path) })),
      options
    );
    super({
      level,
      path,
      value: void 0,
      revision: 0,
      ready: false,
      error: void 0,
      set: (below, value, options) => page.set(level, place(below), value, options),
      delete: (below, options) => patch([{ path: below, delete: true }], options),
      patch
    });
    this.#page = page;
  }
  used() {
    const { level, path } = this.current();
    const view = this.#page.watch(level, path);
    this.#view = view;
    const show = () => {
      if (view === this.#view)
        this.update({ value: view.value, revision: view.revision, ready: true, error: void 0 });
    };
    view.on("change", show);
    view.on("removed", show);
    const refuse = (error) => {
      if (view === this.#view) this.update({ value: void 0, revision: 0, ready: false, error });
    };
    view.on("error", refuse);
    view.ready.then(show, refuse);
  }
  unused() {
    this.#view?.close();
    this.#view = void 0;
  }
};
var NO_JOB = {
  state: "idle",
  id: void 0,
  progress: 0,
  message: void 0,
  result: void 0,
  error: void 0
};
var JobStore = class extends Store {
  #page;
  #kind;
  #job;
  constructor(page, kind) {
    super({ ...NO_JOB, submit: (data, options) => this.#submit(data, options), cancel: () => this.#job?.cancel() });
    this.#page = page;
    this.#kind = kind;
  }
  #submit(data, options) {
    const job = this.#page.job(this.#kind, data, options);
    this.#job = job;
    const show = (change) => {
      if (job === this.#job) this.update(change);
    };
    show({ ...NO_JOB, state: "submitted" });
    job.on("progress", ({ progress, message }) => show({ state: "running", progress, message }));
    job.accepted.then((id) => show({ state: "running", id })).catch(() => void 0);
    job.result.then(
      (result) => show({ state: "succeeded", result, progress: 1 }),
      (error) => show({ state: error.state ?? "failed", error })
    );
    return job;
  }
};

// src/react/hooks.ts
var PageContext = createContext(void 0);
function PageProvider(props) {
  return createElement(PageContext.Provider, { value: props.page }, props.children);
}
function useProvided() {
  const page = useContext(PageContext);
  if (!page) throw new Error("there is no <PageProvider page={\u2026}> above this component");
  return page;
}
function usePage() {
  const store = PageStore.of(useProvided());
  return useSyncExternalStore(store.subscribe, store.current, store.current);
}
function useTree(level, path = "") {
  const page = useProvided();
  const store = useMemo(() => new TreeStore(page, level, path), [page, level, path]);
  return useSyncExternalStore(store.subscribe, store.current, store.current);
}
function useJob(kind) {
  const page = useProvided();
  const store = useMemo(() => new JobStore(page, kind), [page, kind]);
  return useSyncExternalStore(store.subscribe, store.current, store.current);
}
export {
  PageProvider,
  useJob,
  usePage,
  useTree
};
