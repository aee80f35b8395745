// Tests docker-compose.yml as people use it: real containers of a real Docker engine, pages through nginx, work at
// workers. Started by `python3 tests/run.py --only compose`, which collects the files of the images first. The tests of
// the imported files run in the order of the imports, on the same cluster, and before the one below.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { cluster } from "./cluster.mjs";
import "./pages.mjs";
import "./work.mjs";
import "./faults.mjs";
import { removeReleases } from "./rollout.mjs";

/** Prints the last log lines of the containers and the reason why a container is not healthy. */
async function report() {
  console.error(await cluster.docker?.compose("logs", "--no-color", "--timestamps", "--tail", "20"));
  for (const [service, { State }] of Object.entries((await cluster.docker?.containers()) ?? {})) {
    if (State.Health && State.Health.Status !== "healthy") console.error(service, JSON.stringify(State.Health));
  }
}

before(
  async () => {
    try {
      await cluster.start();
    } catch (error) {
      await report();
      throw error;
    }
  },
  { timeout: 300_000 },
);

afterEach(async ({ error }) => {
  if (error && error.failureType !== "hookFailed") await report();
});

after(() => cluster.stop());

test("taken down, nothing is left", async () => {
  const { docker } = cluster;
  await removeReleases();
  await docker.compose("down", "--volumes");
  assert.equal(await docker.docker("ps", "--all", "--quiet"), "");
  assert.equal(await docker.docker("volume", "ls", "--quiet"), "");
  assert.equal(await docker.docker("network", "ls", "--quiet", "--filter", "type=custom"), "");
});
