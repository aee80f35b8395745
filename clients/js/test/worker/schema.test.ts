import assert from "node:assert/strict";
import { test } from "node:test";
import { accept, verify } from "../../src/worker/schema.js";
import type { JsonSchema } from "../../src/worker/types.js";

const order: JsonSchema = {
  type: "object",
  properties: {
    item: { type: "string", minLength: 1, maxLength: 5, pattern: "^[a-z]+$" },
    count: { type: "integer", minimum: 1, maximum: 99 },
    status: { enum: ["new", "sent"] },
    lines: {
      type: "array",
      minItems: 1,
      maxItems: 2,
      items: { type: "object", properties: { price: { type: "number" } } },
    },
    note: { type: ["string", "null"] },
    version: { const: 2 },
    place: { anyOf: [{ type: "string" }, { type: "array", items: { type: "number" } }] },
  },
  required: ["item"],
  additionalProperties: false,
};

test("parameters that fit are accepted as they are", () => {
  const whole = {
    item: "cup",
    count: 3,
    status: "new",
    lines: [{ price: 1.5 }],
    note: null,
    version: 2,
    place: [1, 2],
  };
  assert.equal(accept(order, whole), whole);
  assert.deepEqual(accept({ type: "object" }, null), {});
  assert.equal(accept({ type: "string" }, "a"), "a");
  assert.equal(accept({ maxLength: 2 }, "😀😀"), "😀😀");
});

test("the message names the first parameter that does not fit, and what is expected", () => {
  const wrong: [unknown, string][] = [
    [{}, "`item` is missing: expected a string"],
    [null, "`item` is missing: expected a string"],
    [[], "`params`: expected an object, got an array"],
    [{ item: 7 }, "`item`: expected a string, got 7"],
    [{ item: "" }, "`item` has at least 1 characters"],
    [{ item: "teapots" }, "`item` has at most 5 characters"],
    [{ item: "Cup" }, "`item` does not match ^[a-z]+$"],
    [{ item: "cup", count: 1.5 }, "`count`: expected an integer, got 1.5"],
    [{ item: "cup", count: true }, "`count`: expected an integer, got true"],
    [{ item: "cup", count: 0 }, "`count` is at least 1, not 0"],
    [{ item: "cup", count: 100 }, "`count` is at most 99, not 100"],
    [{ item: "cup", status: "lost" }, '`status`: expected "new" or "sent", got the text "lost"'],
    [{ item: "cup", lines: [] }, "`lines` has at least 1 items"],
    [{ item: "cup", lines: [{}, {}, {}] }, "`lines` has at most 2 items"],
    [{ item: "cup", lines: [{ price: 1 }, { price: "x" }] }, '`lines[1].price`: expected a number, got the text "x"'],
    [{ item: "cup", note: 1 }, "`note`: expected a string or null, got 1"],
    [{ item: "cup", version: 3 }, "`version`: expected 2, got 3"],
    [{ item: "cup", place: ["x"] }, "`place`: expected a string or an array, got an array"],
    [{ item: "cup", price: 1 }, "there is no parameter `price`"],
    [{ item: "cup", toString: 1 }, "there is no parameter `toString`"],
    [JSON.parse('{"item": "cup", "__proto__": 1}'), "there is no parameter `__proto__`"],
  ];
  for (const [params, message] of wrong) {
    assert.throws(() => accept(order, params), { name: "Fail", code: "malformed", message });
  }
});

test("a keyword that would not be checked is refused", () => {
  verify({ ...order, title: "Order", format: "order", default: {} });
  const later = { type: "object", properties: { a: { items: { oneOf: [] } } } } as JsonSchema;
  assert.throws(() => verify(later), /`oneOf` of schema.properties.a.items/);
  assert.throws(() => verify({ pattern: "(" }), SyntaxError);
});
