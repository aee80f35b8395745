import assert from "node:assert/strict";
import { test } from "node:test";
import { TreeDraft } from "../../src/worker/draft.js";

test("a draft is read and changed, and its changes are in order", () => {
  const draft = new TreeDraft({ wizard: { name: "Ada" }, count: 1 }, 7);
  assert.equal(draft.get("wizard.name"), "Ada");
  assert.equal(draft.get("wizard.age", 3), 3);
  assert.equal(draft.has("count"), true);
  draft.set("wizard.form.page", 2);
  draft.delete("count");
  draft.delete("count");
  assert.equal(draft.get("wizard.form.page"), 2);
  assert.equal(draft.has("count"), false);
  assert.deepEqual(draft.changes(), [
    { path: "wizard.form.page", value: 2 },
    { path: "count", delete: true },
  ]);
  assert.equal(draft.revision, 7);
});

test("what is changed in place is written before the next change", () => {
  const draft = new TreeDraft({ list: [1], same: { a: 1 } }, 0);
  draft.get<number[]>("list").push(2);
  draft.get("same");
  draft.set("list.x", 1);
  draft.get<Record<string, number>>("same")["a"] = 2;
  assert.deepEqual(draft.changes(), [
    { path: "list", value: [1, 2] },
    { path: "list.x", value: 1 },
    { path: "same", value: { a: 2 } },
  ]);
});

test("a value that was set is a copy, and a whole tree is an object", () => {
  const draft = new TreeDraft(undefined, 0);
  const value = { a: 1 };
  draft.set("", value);
  value.a = 2;
  assert.deepEqual(draft.get(), { a: 1 });
  assert.throws(() => draft.set("", [1]), /object/);
  assert.throws(() => draft.set("a", NaN), /NaN/);
  draft.delete("");
  assert.deepEqual(draft.get(), {});
});

test("no key reaches a prototype", () => {
  const draft = new TreeDraft({}, 0);
  assert.equal(draft.get("constructor.name"), undefined);
  draft.set("__proto__.polluted", true);
  assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
  assert.equal(draft.get("__proto__.polluted"), true);
});
