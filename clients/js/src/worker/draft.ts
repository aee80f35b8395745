// A copy of a state tree that collects changes. Sends nothing.

import { split } from "../path.js";
import type { Change, Draft } from "./types.js";
import { encode } from "./wire.js";

type Branch = Record<string, unknown>;

export class TreeDraft implements Draft {
  readonly revision: number;
  #tree: Branch;
  readonly #changes: Change[] = [];
  /** Objects that the handler has, and may change, with their JSON from before. */
  #given = new Map<string, { value: unknown; before: string }>();

  constructor(value: unknown, revision: number) {
    this.#tree = isBranch(value) ? value : {};
    this.revision = revision;
  }

  get<Value>(path = "", fallback?: Value): Value {
    const value = this.#find(path);
    if (value === undefined) return fallback as Value;
    if (typeof value === "object" && value !== null && !this.#given.has(path)) {
      this.#given.set(path, { value, before: encode(value) });
    }
    return value as Value;
  }

  has(path: string): boolean {
    return this.#find(path) !== undefined;
  }

  set(path: string, value: unknown): void {
    const keys = split(path);
    // a copy, which a later change of the original does not reach
    const copy: unknown = JSON.parse(encode(value));
    this.#keepGiven();
    if (keys.length === 0) {
      if (!isBranch(copy)) throw new TypeError("a whole tree is an object");
      this.#tree = copy;
    } else {
      const last = keys.pop() as string;
      let branch = this.#tree;
      for (const key of keys) {
        const below = child(branch, key);
        branch = isBranch(below) ? below : put(branch, key, {});
      }
      put(branch, last, copy);
    }
    this.#changes.push({ path, value: copy });
  }

  delete(path: string): void {
    if (!this.has(path)) return;
    this.#keepGiven();
    const keys = split(path);
    const last = keys.pop();
    if (last === undefined) this.#tree = {};
    else delete (keys.reduce<unknown>((value, key) => (value as Branch)[key], this.#tree) as Branch)[last];
    this.#changes.push({ path, delete: true });
  }

  /** Returns the changes in their order. */
  changes(): readonly Change[] {
    this.#keepGiven();
    return this.#changes;
  }

  /** Records what was changed in place, and forgets the objects: the next change may replace them. */
  #keepGiven(): void {
    const given = this.#given;
    this.#given = new Map();
    for (const [path, { value, before }] of given) {
      if (this.#find(path) !== value) continue;
      const now = encode(value);
      if (now !== before) this.#changes.push({ path, value: JSON.parse(now) as unknown });
    }
  }

  #find(path: string): unknown {
    return split(path).reduce<unknown>((value, key) => (isBranch(value) ? child(value, key) : undefined), this.#tree);
  }
}

function child(branch: Branch, key: string): unknown {
  return Object.hasOwn(branch, key) ? branch[key] : undefined;
}

function put<Value>(branch: Branch, key: string, value: Value): Value {
  // a plain assignment to `__proto__` would set the prototype
  Object.defineProperty(branch, key, { value, writable: true, enumerable: true, configurable: true });
  return value;
}

function isBranch(value: unknown): value is Branch {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
