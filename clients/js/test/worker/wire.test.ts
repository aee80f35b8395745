import assert from "node:assert/strict";
import { test } from "node:test";
import { BrokenWire, encode, FrameReader, pack } from "../../src/worker/wire.js";

const nested = (levels: number): unknown => Array.from({ length: levels }).reduce((value) => [value], "inside");

test("what JSON cannot hold is refused and named", () => {
  for (const value of [NaN, { total: Infinity }, [-Infinity]]) assert.throws(() => encode(value), /NaN|Infinity/);
  assert.throws(() => encode({ total: NaN }), /total is NaN/);
  assert.throws(() => encode("half: \ud83d"), /surrogate/);
  assert.throws(() => encode({ "\udc00": 1 }), /surrogate/);
  assert.throws(() => encode(12n), TypeError);
  assert.throws(() => encode(() => 1), /function/);
  const circle: unknown[] = [];
  circle.push(circle);
  assert.throws(() => encode(circle), TypeError);
});

test("what looks like it is accepted", () => {
  const values = [null, "null", "\\ud83d", "\\\\ud800 is a text", "😀", { a: undefined, at: new Date(0) }, undefined];
  for (const value of values) {
    assert.deepEqual(JSON.parse(encode(value)), JSON.parse(JSON.stringify(value) ?? "null"));
  }
});

test("a value has at most 64 levels, and brackets in texts do not count", () => {
  const padding = "x".repeat(200);
  assert.ok(encode([padding, nested(63)]));
  assert.throws(() => encode([padding, nested(64)]), /64 levels/);
  assert.ok(encode({ text: '["\\'.repeat(100) + padding, end: nested(60) }));
});

test("a frame that breaks the rules is refused, before it is whole if its length does", () => {
  const bodies = ['{"t":"ping"', '["t"]', '{"id":1}', '{"t":1}', "null"].map((body) => pack(body));
  const tooLong = Buffer.from([0, 0x10, 0, 1]);
  const reserved = Buffer.from([0x80, 0, 0, 1]);
  const notUtf8 = Buffer.concat([
    Buffer.from([0, 0, 0, 9]),
    Buffer.from('{"t":"'),
    Buffer.from([0xff]),
    Buffer.from('"}'),
  ]);
  for (const bytes of [...bodies, tooLong, reserved, notUtf8]) {
    assert.throws(() => new FrameReader().read(bytes), BrokenWire, bytes.toString());
  }
});
