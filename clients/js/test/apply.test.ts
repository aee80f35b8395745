import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, same } from "../src/apply.js";

const text = (value: unknown): string | undefined => JSON.stringify(value);

test("a value is written where it belongs, and the order of keys is kept", () => {
  const before = { b: 1, a: { x: 1, y: 2 } };
  const at = (keys: string[], value: unknown): string | undefined => text(apply(before, [{ keys, value }]));
  assert.equal(at(["b"], 2), '{"b":2,"a":{"x":1,"y":2}}');
  assert.equal(at(["c"], null), '{"b":1,"a":{"x":1,"y":2},"c":null}');
  assert.equal(at(["a", "x"], undefined), '{"b":1,"a":{"y":2}}');
  assert.equal(at(["a", "z", "deep"], []), '{"b":1,"a":{"x":1,"y":2,"z":{"deep":[]}}}');
  assert.equal(at([], 5), "5");
  assert.equal(at([], undefined), undefined);
});

test("what is no branch becomes one, and nothing is deleted where nothing stands", () => {
  for (const leaf of [undefined, null, 5, "text", [1, 2]]) {
    assert.deepEqual(apply(leaf, [{ keys: ["a", "b"], value: 1 }]), { a: { b: 1 } });
    assert.equal(apply(leaf, [{ keys: ["length"], value: undefined }]), leaf);
  }
  assert.deepEqual(apply({ a: {} }, [{ keys: ["a", "b", "c"], value: undefined }]), { a: {} });
});

test("what was handed out stays as it was, and what did not change stays the same object", () => {
  const before = { a: { x: {}, y: {} }, b: {} };
  const written = { deep: {} };
  const after = apply(before, [
    { keys: ["a", "x"], value: written },
    { keys: ["a", "x", "deep", "deeper"], value: 1 },
    { keys: ["a", "y", "z"], value: 2 },
  ]) as typeof before;
  assert.deepEqual([before, written], [{ a: { x: {}, y: {} }, b: {} }, { deep: {} }]);
  assert.deepEqual(after, { a: { x: { deep: { deeper: 1 } }, y: { z: 2 } }, b: {} });
  assert.equal(after.b, before.b);
});

test("no key reaches what is not the tree's", () => {
  const polluted = apply({}, [
    { keys: ["__proto__", "evil"], value: 1 },
    { keys: ["constructor", "prototype", "evil"], value: 1 },
  ]);
  assert.equal(text(polluted), '{"__proto__":{"evil":1},"constructor":{"prototype":{"evil":1}}}');
  assert.deepEqual([({} as { evil?: number }).evil, (polluted as { evil?: number }).evil], [undefined, undefined]);
  assert.equal(text(apply(polluted, [{ keys: ["__proto__"], value: undefined }])), text({ constructor: { prototype: { evil: 1 } } }));
});

test("values are the same when they are written the same", () => {
  assert.ok(same(undefined, undefined) && same({ a: [1] }, { a: [1] }) && same(1, 1.0));
  assert.ok(!same({ a: 1, b: 2 }, { b: 2, a: 1 }) && !same(null, undefined) && !same("1", 1));
});
