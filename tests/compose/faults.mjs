// The effects of a lost container: nginx, a worker, a node, a NATS server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { cluster, NODES, STABLE, WORKERS } from "./cluster.mjs";
import { until } from "./docker.mjs";

/** Starts a job. Returns it with the container of its worker. */
async function running() {
  const job = cluster.pages[0].sleep(6000);
  await job.runs();
  const [{ worker }, workers] = await Promise.all([job.record(), cluster.workers()]);
  const name = STABLE.find((name) => workers[name].worker === worker);
  assert.ok(name, `${worker} is none of ${STABLE}`);
  return { ...job, name, worker };
}

test("pages that lose their proxy come back on any node and miss nothing", async () => {
  await cluster.docker.compose("stop", "nginx");
  await until("every socket is lost", () => cluster.pages.every((page) => !page.open));
  const met = await cluster.pagewire("p01", "push", "--user", "ada", '"while you were away"');
  assert.deepEqual([met.reached, met.held], [0, cluster.pages.length]);
  await cluster.docker.compose("start", "nginx");
  await until("every page is back", () => cluster.everyPageOpen());
  assert.deepEqual(new Set(cluster.pages.map(({ outcomes }) => outcomes.at(-1))), new Set(["recovered"]));
  await cluster.delivered("while you were away");
});

test("a worker that is stopped finishes what it does", async () => {
  const job = await running();
  await cluster.docker.compose("stop", job.name);
  assert.equal(await job.ends(), "succeeded");
  const { worker, attempts } = await job.record();
  assert.deepEqual([worker, attempts], [job.worker, 1]);
  assert.equal((await cluster.docker.containers())[job.name].State.ExitCode, 0);
  await cluster.docker.compose("start", job.name);
  await cluster.served(WORKERS);
});

test("a job whose worker is killed ends at the other one", async () => {
  const job = await running();
  await cluster.docker.compose("kill", job.name);
  assert.equal(await job.ends(), "succeeded");
  const [{ worker, attempts }, workers] = await Promise.all([job.record(), cluster.workers()]);
  const other = STABLE.find((name) => name !== job.name);
  assert.deepEqual([worker, attempts], [workers[other].worker, 2]);
  await cluster.docker.compose("start", job.name);
  await cluster.served(WORKERS);
});

test("a node that is killed leaves no ghost: its pages come back elsewhere and are told how their jobs end", async () => {
  const there = () => cluster.pages.filter(({ node }) => node === "p02");
  await until("a page is there", async () => {
    if (there().length === 0) await cluster.openPage();
    return there().length > 0;
  });
  const jobs = there().map((page) => page.sleep(6000));
  for (const job of jobs) await job.runs();
  await cluster.docker.compose("kill", "p02");
  await until("every page is back", () => cluster.everyPageOpen() && there().length === 0);
  await cluster.counted(["p01", "p03"]);
  assert.equal((await cluster.get("/stats")).pages, cluster.pages.length);
  for (const job of jobs) {
    assert.equal(await job.ends(), "succeeded");
    assert.equal((await job.record()).attempts, 1);
  }
  await cluster.pushToAll("without p02");
  await cluster.docker.compose("start", "p02");
  await cluster.counted(NODES);
});

test("a NATS server that is killed costs no page its socket and no job its worker", async () => {
  const opened = cluster.pages.map(({ outcomes }) => outcomes.length);
  const job = await running();
  await cluster.docker.compose("kill", "nats-1");
  await cluster.pushToAll("without nats-1");
  assert.equal(await job.ends(), "succeeded");
  assert.equal((await job.record()).attempts, 1);
  await cluster.docker.compose("start", "nats-1");
  await until("it is healthy", async () => {
    return (await cluster.docker.containers())["nats-1"].State.Health.Status === "healthy";
  });
  assert.deepEqual(cluster.pages.map(({ outcomes }) => outcomes.length), opened);
});
