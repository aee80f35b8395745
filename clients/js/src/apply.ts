// Applies changes to a value. Pure: values that were returned before are never modified.
//
// Objects are branches; everything else is a leaf, including arrays. A browser keeps the insertion order of keys,
// except that integer keys come first.

type Branch = Record<string, unknown>;

/** A value to set below the given keys, or a deletion. */
export interface Step {
  keys: readonly string[];
  /** `undefined` deletes. */
  value: unknown;
}

/** Returns the value after all of these steps. */
export function apply(value: unknown, steps: readonly Step[]): unknown {
  /** Branches that were copied for these steps and can be modified, because no caller has seen them. */
  const ours = new Set<unknown>();

  const open = (node: unknown): Branch => {
    if (ours.has(node)) return node as Branch;
    const copy = isBranch(node) ? { ...node } : {};
    ours.add(copy);
    return copy;
  };

  const at = (node: unknown, [key, ...below]: readonly string[], value: unknown): unknown => {
    if (key === undefined) return value;
    const child = isBranch(node) && Object.hasOwn(node, key) ? node[key] : undefined;
    if (value === undefined && child === undefined) return node;
    const branch = open(node);
    const next = at(child, below, value);
    if (next === undefined) delete branch[key];
    // a plain assignment to `__proto__` would set the prototype
    else Object.defineProperty(branch, key, { value: next, writable: true, enumerable: true, configurable: true });
    return branch;
  };

  return steps.reduce((whole, step) => at(whole, step.keys, step.value), value);
}

/** Returns whether two values are equal, including the order of keys. */
export function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function isBranch(node: unknown): node is Branch {
  return typeof node === "object" && node !== null && !Array.isArray(node);
}
