// A child as a process of its own: the conformance cases of the wire (`pagewire child check`), and how it starts and ends.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { serveOnce } from "./once.js";

const BINARY = process.env["PAGEWIRE_BINARY"];

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(program: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("PAGEWIRE_"));
  const env = { ...Object.fromEntries(own), ...variables };
  return new Promise((resolve) => {
    const child = execFile(program, args, { env, cwd: "test/programs" }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

test(
  "the package keeps every rule of the wire",
  { skip: !BINARY && "PAGEWIRE_BINARY names no program", timeout: 120_000 },
  async () => {
    const { code, stdout, stderr } = await run(BINARY ?? "", [
      "child",
      "check",
      "--json",
      "--",
      process.execPath,
      "conforming.mjs",
    ]);
    assert.equal(code, 0, stderr);
    const { cases, sdk } = JSON.parse(stdout) as { sdk: string; cases: { name: string; result: string }[] };
    assert.deepEqual(
      cases.filter(({ result }) => result !== "ok"),
      [],
    );
    assert.ok(cases.length > 80 && sdk.startsWith("node/"));
  },
);

test("a program that Pagewire has not started explains how to start it", async () => {
  const { code, stderr } = await run(process.execPath, ["conforming.mjs", "--flag"]);
  assert.equal(code, 1);
  assert.match(stderr, /not started by Pagewire/);
  assert.match(stderr, /pagewire dev -- node conforming\.mjs --flag\n/);
  assert.match(stderr, /command = \["node","conforming.mjs","--flag"\]/);
});

test("a program without its supervisor exits and names the reason", async () => {
  const { code, stderr } = await run(process.execPath, ["conforming.mjs"], { PAGEWIRE_SOCKET: "/nowhere" });
  assert.equal(code, 1);
  assert.match(stderr, /^pagewire: .*ENOENT.*before its welcome\n$/);
});

test("a drained program cleans up, and exits although something keeps it alive", async (t) => {
  const { path, drained } = await serveOnce(t);
  const ended = run(process.execPath, ["lingering.mjs"], { PAGEWIRE_SOCKET: path, PAGEWIRE_TOKEN: "secret" });
  const ready = await drained;
  assert.equal(ready["token"], "secret");
  assert.deepEqual(await ended, { code: 0, stdout: "forked: not a child\ncleaned up\n", stderr: "" });
});
