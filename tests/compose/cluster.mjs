// The cluster of docker-compose.yml: its containers, the API through nginx, and pages in it.

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";

import { Pagewire } from "../../clients/js/dist/pagewire.js";
import { Docker, until } from "./docker.mjs";

export const ADDRESS = "127.0.0.1:8080";
const KEY = randomBytes(24).toString("hex");
const SECRET = randomBytes(32).toString("hex");
/** The most concurrent requests: fewer than a worker's slots, because it rejects calls without a free slot. */
const AT_ONCE = 12;

export const NODES = ["p01", "p02", "p03"];
export const STABLE = ["worker-1", "worker-2"];
export const WORKERS = [...STABLE, "canary"];
export const SERVICES = [...NODES, ...WORKERS, "nats-1", "nats-2", "nats-3", "nginx"];

/** A page that records the frames that it receives. */
class Page {
  messages = [];
  outcomes = [];

  states = [];

  constructor(token) {
    this.client = new Pagewire({ url: `ws://${ADDRESS}/_ws`, token });
    this.client.on("message", ({ payload }) => this.messages.push(payload));
    this.client.on("registered", ({ recovered }) => this.outcomes.push(recovered));
    this.client.on("state", ({ state }) => this.states.push(state));
  }

  get id() {
    return this.client.registered.page_id;
  }

  get node() {
    return this.client.registered.node;
  }

  get open() {
    return this.client.state === "open";
  }

  /** Submits a job that takes this long, and records its frames in order: `accepted`, progress, end. */
  sleep(ms) {
    const job = this.client.job("sleep", { ms });
    const told = [];
    job.accepted.then(() => told.push("accepted"), () => undefined);
    job.on("progress", ({ progress }) => told.push(progress));
    let end;
    const over = (how) => told.push((end = how));
    job.result.then(() => over("succeeded"), (error) => over(error.state ?? error.code));
    return {
      told,
      record: async () => cluster.get(`/jobs/${await job.accepted}`),
      runs: () => until("the job runs", () => told.some(Number.isFinite)),
      ends: () => until("the job ends", () => end),
    };
  }
}

/** One cluster for all tests: later tests use the processes that earlier ones started. */
class Cluster {
  /** @type {Docker} */
  docker;
  /** Pages of the user ada. */
  pages = [];
  #token;

  /** Builds the images and starts the cluster like a deployment does. */
  async start() {
    const variables = { PAGEWIRE_API_KEY: KEY, PAGEWIRE_HS256_SECRET: SECRET, PAGEWIRE_ADDRESS: ADDRESS };
    this.docker = await Docker.start(variables);
    await this.docker.images();
    await this.docker.compose("up", "-d");
    this.#token = (await this.pagewire("p01", "token", "create", "--user", "ada")).token;
  }

  async stop() {
    for (const { client } of this.pages) client.close();
    await this.docker?.stop();
  }

  /** Returns the output of a pagewire command, run in the container of a node. */
  pagewire(node, ...options) {
    return this.docker.pagewire(node, ...options);
  }

  /** Sends a request to any node, with the API key unless other headers are given. */
  async ask(path, { headers = { authorization: `Bearer ${KEY}` }, ...options } = {}) {
    const answer = await fetch(`http://${ADDRESS}/api/v1${path}`, { headers, ...options });
    return { status: answer.status, body: await answer.json() };
  }

  async get(path) {
    const { status, body } = await this.ask(path);
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  post(path, body) {
    const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };
    return this.ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  async openPage() {
    const page = await this.visit(this.#token);
    this.pages.push(page);
    return page;
  }

  /** Opens a page that does not count among those that stay. */
  async visit(token) {
    const page = new Page(token);
    await page.client.connect();
    return page;
  }

  /** Returns a token of a user, as an application's login signs it. */
  token(user) {
    const part = (json) => Buffer.from(JSON.stringify(json)).toString("base64url");
    const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 3600 };
    const message = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
    return `${message}.${createHmac("sha256", SECRET).update(message).digest("base64url")}`;
  }

  everyPageOpen() {
    return this.pages.every((page) => page.open);
  }

  /** Waits until every page has received a message. */
  delivered(payload) {
    const everywhere = () => this.pages.every(({ messages }) => messages.includes(payload));
    return until(`${payload} is at every page`, everywhere);
  }

  /** Pushes until every page counts as reached, because a killed node is noticed with a delay. */
  async pushToAll(payload) {
    const push = () => this.pagewire("p03", "push", "--user", "ada", JSON.stringify(payload));
    await until(`${payload} reaches every page`, async () => (await push()).reached === this.pages.length);
    await this.delivered(payload);
  }

  /** Waits until exactly these nodes are live. */
  counted(nodes) {
    const living = async () => (await this.get("/stats")).nodes.map(({ node }) => node);
    return until(`the cluster counts ${nodes}`, async () => (await living()).join() === nodes.join());
  }

  /** Returns the live workers by the names of their containers. */
  async workers() {
    const { items } = await this.get("/workers");
    return Object.fromEntries(items.map((worker) => [worker.host, worker]));
  }

  /** Waits until exactly these workers take work. */
  served(names) {
    const wanted = [...names].sort().join();
    return until(`${names} take work`, async () => Object.keys(await this.workers()).sort().join() === wanted);
  }
}

export const cluster = new Cluster();

/** Runs `act` for each item, a few at a time. Returns the results in the same order. */
export async function each(many, act) {
  const answers = [];
  for (let from = 0; from < many.length; from += AT_ONCE) {
    answers.push(...(await Promise.all(many.slice(from, from + AT_ONCE).map(act))));
  }
  return answers;
}
