// Jobs and calls at workers, and the share of users in a canary.

import assert from "node:assert/strict";
import { test } from "node:test";

import { cluster, each, NODES, STABLE, WORKERS } from "./cluster.mjs";
import { until } from "./docker.mjs";

const USERS = Array.from({ length: 1000 }, (_, number) => `user ${number}`);
/** The users who make calls while the weights change. */
const CALLERS = USERS.slice(0, 250);

/** Returns the users in the canary, the same for every node. */
async function canaries() {
  const lanes = await each(USERS, (user) => cluster.get(`/rollouts/default/explain?user=${encodeURIComponent(user)}`));
  return new Set(lanes.filter(({ lane }) => lane === "canary").map(({ user }) => user));
}

/** Returns the users for whom a call fails; for all others it must succeed. */
async function failing() {
  const answers = await each(CALLERS, (user) => cluster.post("/calls", { method: "echo", params: user, user }));
  return CALLERS.filter((user, number) => {
    const { status, body } = answers[number];
    if (status === 200) assert.equal(body, user);
    else assert.deepEqual([status, body.error?.code], [422, "failed"], JSON.stringify(body));
    return status !== 200;
  });
}

const setWeight = async (weight) => {
  const { applied } = await cluster.pagewire("p02", "rollout", "set-weight", "default", `canary=${weight}`);
  assert.deepEqual([applied.nodes, applied.of], [NODES.length, NODES.length]);
};

test("a job of a page runs at a worker, and the page is told how far it has come and how it ends", async () => {
  const job = cluster.pages[0].sleep(3000);
  assert.equal(await job.ends(), "succeeded");
  const steps = job.told.slice(1, -1);
  assert.deepEqual([job.told.at(0), job.told.at(-1)], ["accepted", "succeeded"]);
  assert.ok(steps.length > 1 && steps.every((step, at) => step > (steps[at - 1] ?? 0)), `${steps}`);
  const { state, worker, lane, user } = await job.record();
  assert.deepEqual([state, lane, user], ["succeeded", "stable", "ada"]);
  const workers = await cluster.workers();
  assert.ok(STABLE.some((name) => workers[name].worker === worker));
});

test("what is assigned stays with one worker per user, and both have users", async () => {
  const found = await each(USERS.slice(0, 20), async (user) => {
    const asked = { kind: "sum", data: [40, 2], user, exec_mode: "assigned", wait_ms: 30_000 };
    const jobs = await Promise.all([1, 2, 3].map(() => cluster.post("/jobs", asked)));
    for (const { body } of jobs) assert.deepEqual([body.state, body.result], ["succeeded", 42], JSON.stringify(body));
    return [...new Set(jobs.map(({ body }) => body.worker))];
  });
  assert.ok(found.every((workers) => workers.length === 1), `${found}`);
  const workers = await cluster.workers();
  assert.deepEqual(new Set(found.flat()), new Set(STABLE.map((name) => workers[name].worker)));
});

test("a weight moves its share of the users and their work, on all nodes at once, and nobody flips back", async () => {
  await cluster.docker.deploy("canary", { CANARY_RELEASE: "bad", CANARY_FAIL: "1" });
  await until("the bad release serves", async () => (await cluster.workers()).canary?.release === "bad");
  const steps = [];
  for (const weight of [0, 10, 100]) {
    await setWeight(weight);
    const found = await canaries();
    assert.deepEqual(await failing(), CALLERS.filter((user) => found.has(user)));
    assert.ok([...(steps.at(-1) ?? [])].every((user) => found.has(user)), "a user left the canary");
    steps.push(found);
  }
  const [none, tenth, all] = steps.map(({ size }) => size);
  assert.deepEqual([none, all], [0, USERS.length]);
  // 10 % of 1,000, with five standard deviations to each side
  assert.ok(tenth > 53 && tenth < 147, `${tenth} users`);
});

test("a weight of 0 takes a bad release back from everybody, and the next one is deployed beside them", async () => {
  await setWeight(0);
  assert.deepEqual(await failing(), []);
  await cluster.docker.deploy("canary", { CANARY_RELEASE: "good" });
  await until("the good release serves", async () => (await cluster.workers()).canary?.release === "good");
  await cluster.served(WORKERS);
  await setWeight(100);
  assert.deepEqual(await failing(), []);
  const { body } = await cluster.post("/jobs", { kind: "sum", data: [40, 2], user: "ada", wait_ms: 30_000 });
  assert.deepEqual([body.result, body.lane, body.release], [42, "canary", "good"]);
  await setWeight(0);
});
