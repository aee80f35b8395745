// The state trees that a handler reads and writes: the requests `state.get` and `state.patch`.

import { setTimeout as sleep } from "node:timers/promises";
import { TreeDraft } from "./draft.js";
import { Conflict } from "./errors.js";
import type { Change, Draft, Level, Reading, State, Tree, WriteOptions } from "./types.js";

/** Sends a request and resolves with its value. */
export type Ask = (method: string, params: object) => Promise<unknown>;

const TRIES = 32;
const LONGEST_PAUSE_MS = 100;

/** Returns the trees that the work belongs to. */
export function trees(ask: Ask): State {
  const own = (level: Level): Tree => new StateTree(ask, { level });
  return {
    user: own("user"),
    connection: own("connection"),
    session: own("session"),
    page: own("page"),
    of: (level, id) => new StateTree(ask, { level, id: String(id) }),
  };
}

class StateTree implements Tree {
  readonly #ask: Ask;
  readonly #at: { level: Level; id?: string };

  constructor(ask: Ask, at: { level: Level; id?: string }) {
    this.#ask = ask;
    this.#at = at;
  }

  async get<Value>(path = "", fallback?: Value): Promise<Value> {
    const { value } = await this.read<Value>(path);
    return value === undefined ? (fallback as Value) : value;
  }

  async read<Value>(path = ""): Promise<Reading<Value>> {
    const read = await this.#ask("state.get", path ? { ...this.#at, path } : this.#at);
    const { value, revision } = read as Reading<Value>;
    return { value, revision };
  }

  set(path: string, value: unknown, options?: WriteOptions): Promise<number> {
    // a missing value would be neither a value nor a deletion
    return this.patch([{ path, value: value === undefined ? null : value }], options);
  }

  delete(path: string, options?: WriteOptions): Promise<number> {
    return this.patch([{ path, delete: true }], options);
  }

  async patch(changes: readonly Change[], { ifRevision }: WriteOptions = {}): Promise<number> {
    const condition = ifRevision === undefined ? {} : { if_revision: ifRevision };
    const written = await this.#ask("state.patch", { ...this.#at, changes, ...condition });
    return (written as { revision: number }).revision;
  }

  async edit(change: (draft: Draft) => unknown): Promise<number> {
    const { value, revision } = await this.read();
    const draft = new TreeDraft(value, revision);
    await change(draft);
    const changes = draft.changes();
    return changes.length > 0 ? this.patch(changes, { ifRevision: revision }) : revision;
  }

  async update(change: (draft: Draft) => unknown): Promise<number> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.edit(change);
      } catch (error) {
        if (!(error instanceof Conflict) || tries === TRIES) throw error;
      }
      await sleep(Math.random() * Math.min(LONGEST_PAUSE_MS, 2 ** tries));
    }
  }
}
