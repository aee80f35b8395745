// Releases of handlers and nodes that are rolled out by themselves, while pages are open in Chromium: a bad one is taken back
// with its work, a good one is promoted, on workers and then on nodes.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Chromium } from "./chromium.mjs";
import { ADDRESS, cluster, each } from "./cluster.mjs";
import { until } from "./docker.mjs";

const FILES = ["docker-compose.yml", "tests/compose/shop.yml"];
const AUTO = ["--auto", "--hold", "2", "--margin", "20"];
/** The users of the windows of Chromium. */
const VISITORS = ["eve", "bob"];

let browser;
let windows;
let customers = 0;

/** Returns the text of a pagewire command, as an operator reads it. */
const text = (...options) => cluster.docker.compose("exec", "-T", "p02", "pagewire", "rollout", ...options);

const status = (pool) => cluster.get(`/rollouts/${pool}`);

async function deploy(service, variables, release) {
  await cluster.docker.deploy(service, variables, ...FILES);
  await until(`${service} ${release} serves`, async () => (await cluster.workers())[service]?.release === release);
}

/** Looks up a price and orders, as customers who come only once. Returns the jobs of their orders. */
async function shop(many) {
  const users = Array.from({ length: many }, () => `customer-${++customers}`);
  await each(users, (user) => cluster.post("/calls", { method: "price", params: [7], user, pool: "shop" }));
  const few = users.slice(0, many / 4);
  const jobs = await each(few, (user) => cluster.post("/jobs", { kind: "order", data: { article: 7 }, user, pool: "shop" }));
  return jobs.map(({ body }) => body.id);
}

/** Lets customers come until the rollout has ended by itself. Returns its status and the jobs. */
async function decided(pool, state, act) {
  const done = [];
  const found = await until(`the rollout of ${pool} is ${state}`, async () => {
    done.push(...(await act()));
    const seen = await status(pool);
    return seen.updated_by === "analysis" && seen.plan?.state === state && seen;
  });
  return { ...found, done };
}

/** A page of a user in Chromium, which looks up a price all the time and shows what it gets. */
function visit(token) {
  return `(async () => {
    const { Pagewire } = await import("/pagewire.js");
    document.body.innerHTML = "<h1>The shop</h1><p id=state></p><p id=node></p><pre id=prices></pre>";
    const page = new Pagewire({ url: "ws://" + location.host + "/_ws", token: ${JSON.stringify(token)} });
    const seen = (window.seen = { states: [], outcomes: [], releases: [], failed: 0, left: 0 });
    const show = (id, text) => (document.getElementById(id).textContent = text);
    page.on("state", ({ state }) => { seen.states.push(state); show("state", state); });
    page.on("registered", ({ recovered, node, lane, release }) => {
      seen.outcomes.push(recovered);
      seen.lane = lane;
      show("node", "node " + node + ", lane " + lane + ", release " + release);
    });
    await page.connect();
    const look = async () => {
      const shown = await page.call("price", [7], { pool: "shop" }).then(({ release, cents }) => {
        seen.releases.push(release);
        return cents / 100 + " €, release " + release;
      }, (error) => { seen.failed += 1; return "no price: " + error.code; });
      show("prices", document.getElementById("prices").textContent.split("\\n").concat(shown).slice(-12).join("\\n"));
      setTimeout(look, 150);
    };
    look();
  })()`;
}

const seen = () => Promise.all(windows.map((window) => window.evaluate("window.seen")));

/** The windows have had one socket after the other, and their pages have not noticed. */
async function unbroken(sockets) {
  for (const { states, outcomes } of await seen()) {
    assert.deepEqual(states.slice(states.indexOf("open")), ["open"]);
    assert.deepEqual(outcomes, ["new", ...Array(sockets - 1).fill("recovered")]);
  }
}

async function picture(name) {
  for (const [at, window] of windows.entries()) await window.screenshot(`compose-${name}-${VISITORS[at]}`);
}

after(() => browser?.stop());

/** Removes the containers that docker-compose does not start by itself. */
export function removeReleases() {
  const files = FILES.flatMap((file) => ["-f", file]);
  return cluster.docker.compose(...files, "rm", "--stop", "--force", "shop", "shop-canary", "canary-node");
}

test("a bad release of own handlers is taken back by itself with its work, while pages are open in Chromium", async () => {
  await deploy("shop", {}, "1.0");
  await deploy("shop-canary", { SHOP_FAULT: "1", SHOP_RELEASE: "2.0" }, "2.0");
  await text("set-weight", "shop", "canary=0");
  browser = await Chromium.start();
  windows = await Promise.all(VISITORS.map(() => browser.open(`http://${ADDRESS}/pagewire.js`)));
  for (const [at, window] of windows.entries()) {
    // a new window shows an empty document first
    const loaded = `location.host === "${ADDRESS}" && document.readyState === "complete"`;
    await until("the window has loaded", () => window.evaluate(loaded));
    await window.evaluate(visit(cluster.token(VISITORS[at])));
  }
  await until("prices are shown", async () => (await seen()).every(({ releases }) => releases.length > 3));
  await picture("before");
  await text("start", "shop", "--lane", "canary", "--steps", "30,100", ...AUTO);
  const { comment, evidence, done } = await decided("shop", "aborted", () => shop(24));
  assert.match(comment, /^lane canary is worse: /);
  assert.equal(evidence.release, "2.0");
  for (const id of done) {
    await until("the order is done", async () => (await cluster.get(`/jobs/${id}`)).state === "succeeded");
  }
  const { body } = await cluster.post("/calls", { method: "price", params: [7], user: "eve", pool: "shop" });
  assert.equal(body.release, "1.0");
  await unbroken(1);
  await picture("taken-back");
});

test("a good release of own handlers is promoted by itself, and each page keeps its release until then", async () => {
  await deploy("shop-canary", { SHOP_RELEASE: "2.1" }, "2.1");
  await text("start", "shop", "--lane", "canary", "--steps", "30,60,100", ...AUTO);
  const { split, done } = await decided("shop", "completed", () => shop(24));
  assert.deepEqual(split.map(({ lane, weight }) => [lane, weight]), [["canary", 100], ["stable", 0]]);
  await text("switch", "shop", "canary");
  const failed = (await seen()).map(({ failed }) => failed);
  await until("the windows show the new release", async () => {
    return (await seen()).every(({ releases }) => releases.at(-1) === "2.1");
  });
  for (const { releases } of await seen()) assert.deepEqual(releases, [...releases].sort(), "a page went back");
  assert.deepEqual((await seen()).map(({ failed }) => failed), failed, "a call failed");
  for (const id of done) {
    await until("the order is done", async () => (await cluster.get(`/jobs/${id}`)).state === "succeeded");
  }
  await unbroken(1);
  await picture("promoted");
});

test("a good release of nodes is promoted by itself, and all pages move to it without a lost socket", async () => {
  await cluster.docker.deploy("canary-node", { CANARY_RELEASE: "2.1" });
  await cluster.counted(["p01", "p02", "p03", "p04"]);
  await text("start", "edge", "--lane", "canary", "--steps", "40,100", ...AUTO);
  await decided("edge", "completed", async () => {
    const users = Array.from({ length: 12 }, () => `visitor-${++customers}`);
    const pages = await Promise.all(users.map((user) => cluster.visit(cluster.token(user))));
    for (const { client } of pages) client.close();
    return [];
  });
  await text("switch", "edge", "canary");
  await unbroken(1);
  const stayed = cluster.pages.map(({ states }) => states.length);
  await text("abort", "edge", "--lane", "stable");
  await until("the pages are at the new node", async () => {
    const lanes = (await seen()).map(({ lane }) => lane);
    return cluster.pages.every(({ node }) => node === "p04") && lanes.every((lane) => lane === "canary");
  });
  await unbroken(2);
  assert.deepEqual(cluster.pages.map(({ states }) => states.length), stayed, "a page noticed");
  await picture("moved");
});

test("the history tells those who were not there what has happened", async () => {
  const history = await text("history", "shop");
  console.log(history);
  assert.match(history, /analysis\s.*lane canary is worse/);
  assert.match(history, /analysis\s.*lane canary is not worse/);
  const nodes = await text("history", "edge");
  console.log(nodes);
  assert.match(nodes, /analysis\s.*lane canary is not worse/);
});
