// docker-compose.yml as people use it: real containers of a real Docker engine, pages through nginx.
// Started by `python3 tests/run.py --only compose`, which collects the images' files first.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, test } from "node:test";

import { Pagewire } from "../../clients/js/dist/pagewire.js";
import { Docker, until } from "./docker.mjs";

const ADDRESS = "127.0.0.1:8080";
const KEY = randomBytes(24).toString("hex");
const NODES = ["p01", "p02", "p03"];
const SERVICES = [...NODES, "nats-1", "nats-2", "nats-3", "nginx"];

/** @type {Docker} */
let docker;
let token;
/** Pages of the user ada, on every node. */
const pages = [];

/** A page that remembers what it got. */
class Page {
  messages = [];
  outcomes = [];

  static async open() {
    const page = new Page();
    page.client = new Pagewire({ url: `ws://${ADDRESS}/_ws`, token });
    page.client.on("message", ({ payload }) => page.messages.push(payload));
    page.client.on("registered", ({ recovered }) => page.outcomes.push(recovered));
    await page.client.connect();
    return page;
  }

  get node() {
    return this.client.registered.node;
  }

  get open() {
    return this.client.state === "open";
  }
}

const got = (payload) => pages.every((page) => page.messages.includes(payload));
const everyPageOpen = () => pages.every((page) => page.open);

/** What the server API answers through nginx: any node. */
async function get(path) {
  const answer = await fetch(`http://${ADDRESS}/api/v1${path}`, { headers: { authorization: `Bearer ${KEY}` } });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

/** Nodes that the cluster counts. */
const living = async () => (await get("/stats")).nodes.map(({ node }) => node);

/** Which of a thousand users the canary has, whichever node is asked. */
async function canaries() {
  const users = Array.from({ length: 1000 }, (_, number) => `user ${number}`);
  const ask = (user) => get(`/rollouts/default/explain?user=${encodeURIComponent(user)}`);
  const found = new Set();
  for (let from = 0; from < users.length; from += 50) {
    const lanes = await Promise.all(users.slice(from, from + 50).map(ask));
    for (const { user, lane } of lanes) if (lane === "canary") found.add(user);
  }
  return found;
}

/** Pushes until every page of ada counts as reached: a node that was killed takes its time to be missed. */
async function pushToAll(payload) {
  const reached = async () => (await docker.pagewire("p03", "push", "--user", "ada", payload)).reached;
  await until(`${payload} reaches ${pages.length} pages`, async () => (await reached()) === pages.length);
}

before(async () => {
  const secret = randomBytes(32).toString("hex");
  docker = await Docker.start({ PAGEWIRE_API_KEY: KEY, PAGEWIRE_HS256_SECRET: secret, PAGEWIRE_ADDRESS: ADDRESS });
  await docker.images();
  await docker.compose("up", "-d");
  token = (await docker.pagewire("p01", "token", "create", "--user", "ada")).token;
});

afterEach(async ({ error }) => {
  if (error) console.error(await docker.compose("logs", "--no-color", "--timestamps", "--tail", "20"));
});

after(async () => {
  for (const { client } of pages) client.close();
  await docker?.stop();
});

test("every container is healthy, without root and with nothing to write on but its data", async () => {
  const healthy = (one) => one.State.Health.Status === "healthy";
  const containers = await until("all are healthy", async () => {
    const found = await docker.containers();
    return Object.values(found).every(healthy) && found;
  });
  assert.deepEqual(Object.keys(containers).sort(), [...SERVICES].sort());
  for (const { Config, HostConfig } of Object.values(containers)) {
    assert.equal(Config.User, "65532:65532");
    assert.ok(HostConfig.ReadonlyRootfs && HostConfig.CapDrop.includes("ALL"));
  }
});

test("three nodes have the numbers that are written down", async () => {
  const { nodes } = await docker.pagewire("p02", "status");
  assert.deepEqual(nodes.map(({ node, name }) => [node, name]), NODES.map((node) => [node, node]));
});

test("behind the proxy the API wants its key, whatever a client claims about itself", async () => {
  for (const headers of [{}, { host: "localhost", "x-forwarded-for": "127.0.0.1" }, { authorization: "Bearer no" }]) {
    assert.equal((await fetch(`http://${ADDRESS}/api/v1/stats`, { headers })).status, 401);
  }
});

test("pages open through nginx on every node, and one push from anywhere reaches them all", async () => {
  await until("a page on every node", async () => {
    pages.push(await Page.open());
    return NODES.every((node) => pages.some((page) => page.node === node));
  });
  const met = await docker.pagewire("p02", "push", "--user", "ada", '"to the user"');
  assert.equal(met.reached, pages.length);
  await until("it is there", () => got("to the user"));
});

test("a push to one page goes to its node and to no other page", async () => {
  for (const page of NODES.map((node) => pages.find((page) => page.node === node))) {
    const other = NODES.find((node) => node !== page.node);
    const id = page.client.registered.page_id;
    assert.equal((await docker.pagewire(other, "push", "--page", id, JSON.stringify(`to ${id}`))).reached, 1);
    await until("it is there", () => page.messages.includes(`to ${id}`));
    assert.equal(pages.filter(({ messages }) => messages.includes(`to ${id}`)).length, 1);
  }
});

test("a weight moves its share of a thousand users on all nodes at once, and nobody flips back", async () => {
  const steps = [];
  for (const weight of [0, 10, 25, 100]) {
    const { applied } = await docker.pagewire("p02", "rollout", "set-weight", "default", `canary=${weight}`);
    assert.deepEqual([applied.nodes, applied.of], [3, 3]);
    const found = await canaries();
    assert.ok([...(steps.at(-1) ?? [])].every((user) => found.has(user)), "a user left the canary");
    steps.push(found);
  }
  const [none, tenth, , all] = steps.map(({ size }) => size);
  assert.deepEqual([none, all], [0, 1000]);
  // 10 % of 1,000 with five standard deviations to each side
  assert.ok(tenth > 53 && tenth < 147, `${tenth} users`);
});

test("pages that lose their proxy come back on any node and miss nothing", async () => {
  await docker.compose("stop", "nginx");
  await until("every socket is lost", () => pages.every((page) => !page.open));
  const met = await docker.pagewire("p01", "push", "--user", "ada", '"while you were away"');
  assert.deepEqual([met.reached, met.held], [0, pages.length]);
  await docker.compose("start", "nginx");
  await until("every page is back", everyPageOpen);
  assert.deepEqual(new Set(pages.map(({ outcomes }) => outcomes.at(-1))), new Set(["recovered"]));
  await until("it is there", () => got("while you were away"));
});

test("a node that is killed leaves no ghost: its pages come back elsewhere, then it takes its number again", async () => {
  await docker.compose("kill", "p02");
  await until("every page is back", () => everyPageOpen() && pages.every((page) => page.node !== "p02"));
  await until("the cluster counts two nodes", async () => (await living()).join() === "p01,p03");
  assert.equal((await get("/stats")).pages, pages.length);
  await pushToAll('"without p02"');
  await until("it is there", () => got("without p02"));
  await docker.compose("start", "p02");
  await until("the cluster counts three nodes", async () => (await living()).join() === NODES.join());
});

test("a NATS server that is killed costs no page its socket", async () => {
  const opened = pages.map(({ outcomes }) => outcomes.length);
  await docker.compose("kill", "nats-1");
  await pushToAll('"without nats-1"');
  await until("it is there", () => got("without nats-1"));
  await docker.compose("start", "nats-1");
  await until("it is healthy", async () => (await docker.containers())["nats-1"].State.Health.Status === "healthy");
  assert.deepEqual(pages.map(({ outcomes }) => outcomes.length), opened);
});

test("taken down, nothing is left", async () => {
  await docker.compose("down", "--volumes");
  assert.equal(await docker.docker("ps", "--all", "--quiet"), "");
  assert.equal(await docker.docker("volume", "ls", "--quiet"), "");
  assert.equal(await docker.docker("network", "ls", "--quiet", "--filter", "type=custom"), "");
});
