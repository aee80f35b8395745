import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { escape, join, split } from "../src/path.js";

interface Golden {
  paths: { text: string; keys: string[]; written?: string }[];
  longest: { keys: number; bytes_of_a_key: number };
  positions: string[];
  invalid: string[];
}

const golden = JSON.parse(readFileSync("../../tests/golden/paths.json", "utf8")) as Golden;
const refused = { name: "PagewireError", code: "malformed" };

test("paths are read and written as everywhere", () => {
  for (const { text, keys, written = text } of golden.paths) {
    assert.deepEqual(split(text), keys, text);
    assert.equal(keys.map(escape).join("."), written);
  }
  for (const text of [...golden.invalid, ...golden.positions]) assert.throws(() => split(text), refused, text);
});

test("paths and keys have the same limits everywhere", () => {
  const { keys, bytes_of_a_key: bytes } = golden.longest;
  const longest = Array.from({ length: keys }, () => "é".repeat(bytes / 2)).join(".");
  assert.equal(split(longest).length, keys);
  assert.throws(() => split(`${longest}.a`), refused);
  assert.throws(() => split("é".repeat(bytes / 2) + "e"), refused);
});

test("any keys come back from their text", () => {
  const letters = ["a", ".", "\\", "#", "🦀"];
  const key = (): string =>
    Array.from({ length: 1 + Math.random() * 4 }, () => letters[Math.floor(Math.random() * letters.length)]).join("");
  for (let run = 0; run < 2_000; run++) {
    const keys = Array.from({ length: Math.random() * 5 }, key);
    assert.deepEqual(split(join(...keys.map(escape))), keys);
  }
});

test("paths are joined as they are, and none swallows the next one", () => {
  assert.equal(join("", "users", escape("james.wilson"), "", "#2"), "users.james\\.wilson.#2");
  assert.equal(join("a\\\\", "b"), "a\\\\.b");
  assert.equal(join(), "");
  for (const unfinished of ["\\", "a\\", "a\\\\\\"]) assert.throws(() => join(unfinished, "b"), refused);
});
