// What changes make of a value. Pure: whatever was handed out before stays as it was.
//
// Objects are branches, everything else is a leaf, arrays too. A browser keeps the order in which keys came, but puts
// keys that are whole numbers first.

type Branch = Record<string, unknown>;

/** A value for the keys below, or nothing from there on. */
export interface Step {
  keys: readonly string[];
  /** `undefined` deletes. */
  value: unknown;
}

/** The value after all of these steps. */
export function apply(value: unknown, steps: readonly Step[]): unknown {
  /** Branches that were copied for these steps: nobody has seen them. */
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
    // a plain assignment to `__proto__` would be something else
    else Object.defineProperty(branch, key, { value: next, writable: true, enumerable: true, configurable: true });
    return branch;
  };

  return steps.reduce((whole, step) => at(whole, step.keys, step.value), value);
}

/** Whether two values are the same, the order of keys included. */
export function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function isBranch(node: unknown): node is Branch {
  return typeof node === "object" && node !== null && !Array.isArray(node);
}
