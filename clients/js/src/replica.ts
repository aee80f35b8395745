// The client's copy of one watched path. Pure.

import { apply, same, type Step } from "./apply.js";
import { escape, split } from "./path.js";
import type { Change } from "./state.js";
import type { ServerFrame } from "./types.js";

/** A `data` frame: a snapshot (or the absence of a value), changes, or the removal of the tree. */
export interface DataFrame extends ServerFrame {
  level: string;
  path?: string;
  revision: number;
  snapshot?: unknown;
  missing?: true;
  changes?: { path: string; value?: unknown; delete?: true; from?: string }[];
  removed?: true;
}

export class Replica {
  /** The keys of the path. */
  readonly #at: readonly string[];
  /** The server has sent the value. */
  #known = false;
  #value: unknown;
  #revision = 0;

  constructor(at: readonly string[]) {
    this.#at = at;
  }

  /** Whether the server has sent anything yet. */
  get known(): boolean {
    return this.#known;
  }

  get value(): unknown {
    return this.#value;
  }

  get revision(): number {
    return this.#revision;
  }

  /**
   * Applies a frame. Returns the changes that it made, with paths below this one; `undefined` if the frame belongs to
   * an earlier watch of the same path, and the snapshot is still to come.
   */
  take(frame: DataFrame): Change[] | undefined {
    if (!this.#known && (frame.changes || frame.removed)) return undefined;
    if (!frame.changes) return this.#replace(frame);
    const steps = frame.changes.map(({ path, value }): Step => {
      const keys = split(path);
      // deleting a whole tree leaves an empty one
      return { keys: keys.slice(this.#at.length), value: keys.length === 0 ? (value ?? {}) : value };
    });
    this.#value = apply(this.#value, steps);
    this.#revision = frame.revision;
    return frame.changes.map((change, n) => ({ ...change, path: (steps[n]?.keys ?? []).map(escape).join(".") }) as Change);
  }

  #replace({ snapshot, revision = 0 }: DataFrame): Change[] {
    this.#known = true;
    this.#revision = revision;
    // an equal value stays the same object
    if (same(this.#value, snapshot)) return [];
    this.#value = snapshot;
    return [snapshot === undefined ? { path: "", delete: true } : { path: "", value: snapshot }];
  }
}
