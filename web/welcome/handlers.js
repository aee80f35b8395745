// The handlers of the application: what its programs serve, a call or job of one, and why a program does not start.
import { submit } from "/_pagewire/jobs.js";
import { page } from "/_pagewire/page.js";
import { $, answer, element, hue } from "/_pagewire/view.js";

/** How often the list is read while this page is visible. */
const PERIOD_MS = 2_000;
/** Responses after which it is not read again: this page may not read it, or the server does not have it. */
const REFUSALS = [401, 403, 404];
/** Stands between the reason of a failure and the last lines that the program has written. */
const OUTPUT = "; the last lines of its output:\n";
/** Work without a pool goes there. */
const DEFAULT_POOL = "default";

let chosen;
let shown;

/** The handlers of programs, each with its pool: those of pools with children, and others that the server has not itself. */
function handlersOf({ items = [], pools = [] }) {
  const programs = new Set(pools.map(({ pool }) => pool));
  const inline = new Set(items.find(({ kind }) => kind === "inline")?.methods);
  const found = new Map();
  const serving = items.flatMap(({ executors }) => executors ?? []).filter(({ draining }) => !draining);
  for (const { pool, methods } of serving) {
    const own = methods.filter((method) => programs.has(pool) || !inline.has(method));
    for (const method of own) found.set(`${pool} ${method}`, { pool, method });
  }
  return [...found.entries()].sort(([a], [b]) => a.localeCompare(b)).map(([, handler]) => handler);
}

/** Why a pool does not do what it should: nothing when it does. */
function problemOf({ children, failing, outdated, last_error: error }) {
  if (!error) return undefined;
  if (children.length === 0) return "does not start";
  if (failing) return "fails again and again";
  return outdated ? "is the one before the last change, because the new one does not start" : undefined;
}

function show(list) {
  const handlers = handlersOf(list);
  const broken = (list.pools ?? []).filter(problemOf);
  const now = JSON.stringify([handlers, broken.map((pool) => [pool.pool, problemOf(pool), pool.last_error])]);
  if (now === shown) return;
  shown = now;
  $("own").hidden = handlers.length + broken.length === 0;
  $("own-form").hidden = handlers.length === 0;
  $("own-problems").replaceChildren(...broken.map(problem));
  $("own-list").replaceChildren(...handlers.map(chip));
  const still = handlers.find(({ pool, method }) => pool === chosen?.pool && method === chosen?.method);
  if (handlers.length > 0) choose(still ?? handlers[0]);
}

function problem(pool) {
  const root = element("div", "problem", "");
  const [why, output] = pool.last_error.split(OUTPUT);
  root.append(element("p", "failed", `The program of pool ${pool.pool} ${problemOf(pool)}: ${why}`));
  if (output) root.append(element("pre", "mono", output));
  return root;
}

function chip({ pool, method }) {
  const made = element("button", "peer", method);
  made.type = "button";
  made.dataset.testid = `handler-${method}`;
  made.style.setProperty("--hue", hue(pool));
  if (pool !== DEFAULT_POOL) made.append(element("span", "pool", pool));
  made.addEventListener("click", () => choose({ pool, method }));
  made.handler = { pool, method };
  return made;
}

function choose(handler) {
  chosen = handler;
  for (const chip of $("own-list").children) {
    const { pool, method } = chip.handler;
    chip.setAttribute("aria-pressed", String(pool === handler.pool && method === handler.method));
  }
  $("own-name").textContent = handler.method;
  $("own-pool").textContent = handler.pool;
}

const where = () => (chosen.pool === DEFAULT_POOL ? {} : { pool: chosen.pool });

function parameters() {
  return JSON.parse($("own-params").value || "null");
}

$("own-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("own-latency").textContent = "";
  const begun = performance.now();
  const called = async () => page.call(chosen.method, parameters(), where());
  await answer($("own-answer"), called(), (value) => JSON.stringify(value ?? null));
  $("own-latency").textContent = `in ${(performance.now() - begun).toFixed(1)} ms`;
});

$("own-job").addEventListener("click", () => {
  $("own-latency").textContent = "";
  const submitted = async () => submit(chosen.method, parameters(), where());
  answer($("own-answer"), submitted(), () => "submitted: its progress is below, at Job");
});

async function follow() {
  try {
    const response = document.hidden ? undefined : await fetch("/api/v1/executors");
    if (response?.ok) show(await response.json());
    if (REFUSALS.includes(response?.status)) return;
  } catch {
    // the server is away: what was shown stays
  }
  setTimeout(follow, PERIOD_MS);
}

follow();
