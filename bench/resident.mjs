// Measures resident pages: a method beside a plain call of the same program, the memory of an object beside a plain one, and
// what pages notice when the executor of their objects drains.
//
//   node bench/resident.mjs --pagewire target/release/pagewire --python python3 --nats nats-server [--runs 3] [--pages 1000]

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";

import { Pagewire } from "../clients/js/dist/pagewire.js";

const { values: options } = parseArgs({
  options: {
    pagewire: { type: "string", default: "target/release/pagewire" },
    python: { type: "string", default: "python3" },
    nats: { type: "string", default: "nats-server" },
    runs: { type: "string", default: "3" },
    pages: { type: "string", default: "1000" },
  },
});
// a path is relative to where this was started, a name is looked up
for (const name of ["pagewire", "python", "nats"]) if (options[name].includes("/")) options[name] = resolve(options[name]);
const runs = Number(options.runs);
const count = Number(options.pages);
const folder = mkdtempSync(join(tmpdir(), "resident-"));
const sdk = new URL("../clients/python/src", import.meta.url).pathname;

const APPLICATION = `
import os
from pagewire import App, Page, rpc

app = App(slots=64)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Plain:
    def __init__(self):
        self.n = 0


@app.handler(mode="assigned")
def echo(ctx, value: int) -> int:
    return value


@app.handler(mode="assigned")
def memory(ctx, plain: int = 0) -> int:
    before = resident()
    kept = [Plain() for _ in range(plain)]
    return resident() - before if kept else before


@app.page
class Counter(Page):
    def on_open(self):
        self.n = 0

    @rpc
    def echo(self, value: int) -> int:
        return value

    @rpc
    def add(self) -> int:
        self.n += 1
        return self.n

    def save(self):
        return self.n

    def restore(self, saved, why):
        self.n = saved
`;
writeFileSync(join(folder, "bench.py"), APPLICATION);

const children = [];
const environment = {
  ...process.env,
  PYTHONPATH: `${sdk}:${folder}`,
  PAGEWIRE_LOG: "error",
  PAGEWIRE_WELCOME: "false",
  PAGEWIRE_LIMITS__CONNECTIONS_PER_IP: "1000000",
  PAGEWIRE_LIMITS__ANONYMOUS_PAGES_PER_IP_PER_MINUTE: "1000000",
  PAGEWIRE_LIMITS__FRAMES_PER_SECOND: "1000000",
};

function start(program, args, variables = {}) {
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...environment, ...variables },
    stdio: ["ignore", "inherit", "inherit"],
  });
  children.push(child);
  return child;
}

async function stop(child) {
  if (child.exitCode === null) {
    child.kill("SIGTERM");
    await new Promise((ended) => child.once("exit", ended));
  }
}

const freePort = () =>
  new Promise((found) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });

async function until(what, holds) {
  for (let tries = 0; tries < 600; tries++) {
    if (await holds().catch(() => false)) return;
    await pause(50);
  }
  throw new Error(`it did not happen that ${what}`);
}

async function node(config) {
  const port = await freePort();
  const file = join(folder, `${port}.toml`);
  writeFileSync(file, config);
  const child = start(options.pagewire, ["serve", "--config", file, "--listen", `127.0.0.1:${port}`]);
  await until("the node is ready", async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok);
  return { child, address: `127.0.0.1:${port}` };
}

const open = async (address) => {
  const page = new Pagewire({ url: `ws://${address}/_ws`, resident: "Counter", local_storage: null, session_storage: null });
  await page.connect();
  return page;
};

async function openAll(address, many) {
  const pages = [];
  while (pages.length < many) {
    const some = Math.min(50, many - pages.length);
    pages.push(...(await Promise.all(Array.from({ length: some }, () => open(address)))));
  }
  return pages;
}

const sorted = (list) => [...list].sort((a, b) => a - b);
const at = (list, share) => sorted(list)[Math.min(list.length - 1, Math.floor(list.length * share))];
const row = (name, unit, list) =>
  console.log(`${name.padEnd(52)} ${at(list, 0.5).toFixed(2)} (${at(list, 0).toFixed(2)} – ${at(list, 1).toFixed(2)}) ${unit}`);

async function p50(calls, call) {
  const times = [];
  for (let index = 0; index < calls; index++) {
    const began = performance.now();
    await call(index);
    times.push((performance.now() - began) * 1000);
  }
  return at(times, 0.5);
}

const POOL = `
[[pool]]
name = "default"
command = ["${options.python}", "-m", "pagewire", "bench:app"]
free = 0
assigned = 1
slots = 64
[pool.pages]
max = 100000
`;

async function methods() {
  const { child, address } = await node(POOL);
  const page = await open(address);
  const plain = (value) => page.call("echo", { value });
  const method = (value) => page.object.call("echo", { value });
  await p50(300, plain);
  await p50(300, method);
  const [calls, rpcs, ratios] = [[], [], []];
  for (let round = 0; round < runs * 5; round++) {
    calls.push(await p50(400, plain));
    rpcs.push(await p50(400, method));
    ratios.push(rpcs.at(-1) / calls.at(-1));
  }
  row("a plain call of the program, p50", "µs", calls);
  row("a method of a resident page, p50", "µs", rpcs);
  row("method : call (goal: at most 1.2)", "", ratios);
  const before = await page.call("memory");
  const pages = await openAll(address, count * 5);
  await until("all objects live", async () => {
    const metrics = await (await fetch(`http://${address}/metrics`)).text();
    return metrics.includes(`pagewire_resident_pages{class="Counter"} ${pages.length + 1}`);
  });
  const after = await page.call("memory");
  row("memory of the child for each resident page", "bytes", [(after - before) / pages.length]);
  row("the same for a plain object with one attribute", "bytes", [(await page.call("memory", { plain: 200_000 })) / 200_000]);
  for (const each of [page, ...pages]) each.close();
  await stop(child);
}

async function drain() {
  const port = await freePort();
  const nats = start(options.nats, ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", join(folder, `js-${port}`), "-l", join(folder, "nats.log")]);
  const urls = `nats://127.0.0.1:${port}`;
  await pause(500);
  const { child, address } = await node(`nats.urls = ["${urls}"]\n`);
  const program = [options.python, "-m", "pagewire", "bench:app"];
  const worker = async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    return start(options.pagewire, ["worker", "--nats", urls, "--children", "1", "--slots", "64", "--listen", listen, "--", ...program]);
  };
  const workers = async () => (await (await fetch(`http://${address}/api/v1/workers`)).json()).items.length;
  const first = await worker();
  await until("a worker serves", async () => (await workers()) === 1);
  const second = await worker();
  await until("two workers serve", async () => (await workers()) === 2);
  const pages = await openAll(address, count * 2);
  const seen = pages.map(() => ({ slowest: 0, moved: false, failed: 0, wrong: 0, n: 0 }));
  pages.forEach((page, index) => page.on("resident", ({ state, why }) => {
    if (why === "drain" && state === "restored") seen[index].moved = true;
  }));
  let going = true;
  const caller = async (page, one) => {
    await pause(Math.random() * 1000);
    while (going) {
      const began = performance.now();
      try {
        const n = await page.object.call("add");
        if (n !== one.n + 1) one.wrong++;
        one.n = n;
      } catch (error) {
        one.failed++;
        console.error(`a call has failed: ${error.code} ${error.message}`);
      }
      const took = performance.now() - began;
      if (one.counts) one.slowest = Math.max(one.slowest, took);
      await pause(Math.max(0, 1000 - took));
    }
  };
  const callers = pages.map((page, index) => caller(page, seen[index]));
  await pause(3000);
  seen.forEach((one) => (one.counts = true));
  const began = performance.now();
  first.kill("SIGTERM");
  await new Promise((ended) => first.once("exit", ended));
  const took = performance.now() - began;
  await pause(1500);
  going = false;
  await Promise.all(callers);
  const moved = seen.filter((one) => one.moved);
  for (const each of pages) each.close();
  await stop(second);
  await stop(child);
  await stop(nats);
  return {
    moved: moved.length,
    gap: at(moved.map((one) => one.slowest), 0.99),
    failed: seen.reduce((sum, one) => sum + one.failed, 0),
    wrong: seen.reduce((sum, one) => sum + one.wrong, 0),
    took,
  };
}

try {
  await methods();
  const drains = [];
  for (let run = 0; run < runs; run++) drains.push(await drain());
  const of = (name) => drains.map((run) => run[name]);
  row("a drained executor: resident pages moved", "pages", of("moved"));
  row("  failed calls (goal: 0)", "calls", of("failed"));
  row("  counts that were lost or doubled (goal: 0)", "calls", of("wrong"));
  row("  slowest call of a moved page, p99 (goal: at most 250)", "ms", of("gap"));
  row("  until the worker had ended", "ms", of("took"));
} finally {
  for (const child of children) if (child.exitCode === null) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
