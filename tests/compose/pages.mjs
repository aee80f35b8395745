// The running cluster, and pages in it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { cluster, NODES, SERVICES, WORKERS } from "./cluster.mjs";
import { until } from "./docker.mjs";

test("every container runs, without root and with nothing to write on but its data", async () => {
  // a worker has no port for a health check; the cluster knows whether it is live
  const fine = ({ State }) => (State.Health?.Status ?? State.Status).match(/^(healthy|running)$/);
  const containers = await until("all are healthy", async () => {
    const found = await cluster.docker.containers();
    return Object.values(found).every(fine) && found;
  });
  assert.deepEqual(Object.keys(containers).sort(), [...SERVICES].sort());
  for (const { Config, HostConfig } of Object.values(containers)) {
    assert.equal(Config.User, "65532:65532");
    assert.ok(HostConfig.ReadonlyRootfs && HostConfig.CapDrop.includes("ALL"));
  }
  await cluster.served(WORKERS);
});

test("three nodes have the numbers that are written down", async () => {
  const { nodes } = await cluster.pagewire("p02", "status");
  assert.deepEqual(nodes.map(({ node, name }) => [node, name]), NODES.map((node) => [node, node]));
});

test("behind the proxy the API wants its key, whatever a client claims about itself", async () => {
  for (const headers of [{}, { host: "localhost", "x-forwarded-for": "127.0.0.1" }, { authorization: "Bearer no" }]) {
    assert.equal((await cluster.ask("/stats", { headers })).status, 401);
  }
});

test("pages open through nginx on every node, and one push from anywhere reaches them all", async () => {
  await until("a page on every node", async () => {
    await cluster.openPage();
    return NODES.every((node) => cluster.pages.some((page) => page.node === node));
  });
  const met = await cluster.pagewire("p02", "push", "--user", "ada", '"to the user"');
  assert.equal(met.reached, cluster.pages.length);
  await cluster.delivered("to the user");
});

test("a push to one page goes to its node and to no other page", async () => {
  for (const page of NODES.map((node) => cluster.pages.find((page) => page.node === node))) {
    const other = NODES.find((node) => node !== page.node);
    const text = `to ${page.id}`;
    assert.equal((await cluster.pagewire(other, "push", "--page", page.id, JSON.stringify(text))).reached, 1);
    await until("it is there", () => page.messages.includes(text));
    assert.equal(cluster.pages.filter(({ messages }) => messages.includes(text)).length, 1);
  }
});
