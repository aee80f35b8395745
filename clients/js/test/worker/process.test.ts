// A child as a process of its own: the conformance cases of the wire (`pagewire child check`), and how it starts and ends.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { test } from "node:test";
import type { Message } from "../../src/worker/wire.js";
import { serveOnce } from "./once.js";

const { PAGEWIRE_BINARY } = process.env;
const BINARY = PAGEWIRE_BINARY && resolve(PAGEWIRE_BINARY);

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

function run(program: string, args: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("PAGEWIRE_"));
  const env = { ...Object.fromEntries(own), ...variables };
  return new Promise((done) => {
    const child = execFile(program, args, { env, cwd: "test/programs" }, (_, stdout, stderr) => {
      done({ code: child.exitCode ?? -1, stdout, stderr });
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
  const { code, stderr } = await run(process.execPath, ["--no-warnings", "conforming.mjs", "--flag"]);
  assert.equal(code, 1);
  assert.match(stderr, /not started by Pagewire/);
  assert.match(stderr, /pagewire dev -- node --no-warnings conforming\.mjs --flag\n/);
  assert.match(stderr, /command = \["node","--no-warnings","conforming.mjs","--flag"\]/);
});

test("a program without its supervisor exits and names the reason", async () => {
  const { code, stderr } = await run(process.execPath, ["conforming.mjs"], { PAGEWIRE_SOCKET: "/nowhere" });
  assert.equal(code, 1);
  assert.match(stderr, /^pagewire: .*ENOENT.*before its welcome\n$/);
});

const WELCOME = { t: "welcome", protocol: 1 };
const DRAIN = { t: "drain", within_ms: 1000 };
const call = (id: number, method: string): Message => ({ t: "call", id, method, params: null, deadline_ms: 1000 });

test("a drained program cleans up, and exits although something keeps it alive", async (t) => {
  const seen: Message[] = [];
  const path = await serveOnce(t, (message) => (seen.push(message), [WELCOME, DRAIN]));
  const ended = await run(process.execPath, ["lingering.mjs"], { PAGEWIRE_SOCKET: path, PAGEWIRE_TOKEN: "secret" });
  assert.deepEqual(ended, { code: 0, stdout: "forked: not a child\ncleaned up\n", stderr: "" });
  assert.deepEqual(
    seen.map(({ t, token }) => [t, token]),
    [["ready", "secret"]],
  );
});

test("a request that is refused and not waited for ends no process, but any other promise does", async (t) => {
  const ends: unknown[] = [];
  const path = await serveOnce(t, (message) => {
    if (message.t === "ready") return [WELCOME, call(1, "hasty")];
    if (message.t === "request")
      return [{ t: "reply", id: message["id"], error: { code: "stale", message: "too late" } }];
    ends.push(message["value"]);
    return [call(2, "careless")];
  });
  const { code, stderr } = await run(process.execPath, ["hasty.mjs"], { PAGEWIRE_SOCKET: path });
  assert.deepEqual([code, ends], [1, ["done"]]);
  assert.match(stderr, /^pagewire: a request that is not waited for: PagewireError: .*\n/);
  assert.match(stderr, /Error: a bug of the handler/);
});

test("a cancel that only a request without a waiter has met stops the next one", async (t) => {
  const seen: unknown[][] = [];
  const path = await serveOnce(t, (message) => {
    const { method, work, id, value } = message;
    if (message.t === "ready") return [WELCOME, call(1, "between"), call(2, "both")];
    seen.push([work ?? id, method ?? message.t]);
    if (method === "push.send" && work === 1) return [{ t: "cancel", id: 1, why: "cancelled" }];
    if (method === "call" && seen.filter(([of]) => of === 2).length === 2)
      return [{ t: "cancel", id: 2, why: "cancelled" }];
    if (method === "call") return [{ t: "reply", id, value: null }];
    return value === "clean" ? [DRAIN] : [];
  });
  const { code, stderr } = await run(process.execPath, ["unhandled.mjs"], { PAGEWIRE_SOCKET: path });
  assert.equal(code, 0, stderr);
  const of = (id: number): unknown[] => seen.filter(([work]) => work === id).map(([, what]) => what);
  assert.deepEqual(of(1), ["push.send", "stopped"], "the next request is not sent");
  assert.deepEqual(of(2), ["push.send", "call", "call", "result"], "one waiter has met it");
});
