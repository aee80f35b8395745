// The start page: shows who and where a page is, and lets two of them talk.
import { Pagewire } from "/pagewire.js";

const $ = (id) => document.getElementById(id);
const page = new Pagewire();
/** Other pages of this session, as far as they announced themselves. */
const peers = new Set();
/** Messages of these pages among themselves carry this member. */
const GREETING = "pagewire_start_page";
/** The id under which the others know this page. */
let announced;
const LONGEST_LOG = 500;
/** Where the command line looks for a server by itself. */
const DEFAULT_SERVER = "http://127.0.0.1:8080";

const OUTCOMES = {
  new: "a new page",
  recovered: "recovered, nothing was missed",
  reset: "reset, something may have been missed",
};

const hue = (id) => [...id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
const short = (id) => `${id.slice(0, 6)}…${id.slice(id.indexOf("|"))}`;

page.on("registered", (registered) => {
  show(registered);
  $("recovered").textContent = OUTCOMES[registered.recovered];
  log(`registered: ${OUTCOMES[registered.recovered]}`);
  notice(registered.recovered, { recovered: "Recovered: whatever was missed meanwhile has arrived, in order." });
  if (announced === registered.page_id) return;
  announced = registered.page_id;
  page.broadcast({ [GREETING]: "here" }).catch(complain);
});

page.on("identity", () => show(page.registered));

function show({ user, connection_id, session_id, page_id, node, lane, release }) {
  const facts = { user: user ?? "anonymous", connection: connection_id, session: session_id, page: page_id };
  for (const [id, value] of Object.entries({ ...facts, node, lane, release })) $(id).textContent = value;
  $("page").parentElement.style.setProperty("--hue", hue(page_id));
  document.title = `${short(page_id)} · Pagewire`;
  suggestTarget();
  showCommand();
}

$("open").addEventListener("click", () => window.open(location.href, "_blank"));
$("again").addEventListener("click", () => page.connect().catch(complain));

let ticking;

page.on("state", ({ state, previous, code, reason, retry_at }) => {
  $("state").textContent = state;
  $("state").dataset.state = state;
  $("again").hidden = state !== "closed";
  clearInterval(ticking);
  $("countdown").textContent = "";
  const why = [reason, code && `close code ${code}`].filter(Boolean).join(", ");
  if (state === "waiting") {
    if (retry_at) countDown(retry_at);
    notice(state, { waiting: "The server does not answer. This page tries again until it does." });
  }
  if (state === "closed") notice(state, { closed: `Closed: ${why}.` });
  // a long absence is one line, however many attempts it takes
  if (previous === "open" || state === "closed") log(why ? `${state} (${why})` : state);
});

function countDown(until) {
  const tick = () => {
    $("countdown").textContent = `next attempt in ${Math.max(0, (until - Date.now()) / 1000).toFixed(1)} s`;
  };
  tick();
  ticking = setInterval(tick, 100);
}

function notice(kind, texts) {
  $("notice").hidden = texts[kind] === undefined;
  $("notice").dataset.kind = kind;
  $("notice").textContent = texts[kind] ?? "";
}

page.on("message", ({ payload, from, seq }) => {
  const greeting = payload?.[GREETING];
  const own = from === page.registered.page_id;
  if (greeting === undefined) return log(readable(payload), { kind: "message", seq, from });
  log(own ? "this page announced itself to its session" : "a page of this session announced itself", { seq, from });
  if (own || from === undefined) return;
  if (greeting === "here") page.send({ page: from }, { [GREETING]: "me too" }).catch(complain);
  meet(from);
});

page.on("reset", ({ reason }) => {
  $("recovered").textContent = OUTCOMES.reset;
  notice("reset", { reset: "Reset: the server could not continue where this page was. Something may have been missed." });
  log(`reset: ${reason}`);
});
page.on("error", complain);

function readable(payload) {
  const text = typeof payload === "object" && payload !== null && Object.keys(payload).join() === "text";
  return text ? payload.text : JSON.stringify(payload);
}

function log(text, { kind = "event", seq, from } = {}) {
  const line = document.createElement("li");
  line.dataset.testid = kind;
  if (seq) line.dataset.seq = seq;
  const body = element("div", kind, text);
  if (from) {
    const sender = element("span", "from", `from ${short(from)}`);
    sender.style.setProperty("--hue", hue(from));
    body.append(sender);
  }
  const now = element("time", "", new Date().toLocaleTimeString([], { hour12: false }));
  line.append(now, element("span", "seq", seq ? `#${seq}` : ""), body);
  $("log").prepend(line);
  while ($("log").childElementCount > LONGEST_LOG) $("log").lastElementChild.remove();
}

function element(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function complain(error) {
  log(`${error.code ?? error.name}: ${error.message}`);
}

function meet(id) {
  const key = id.split("|")[0];
  for (const known of peers) if (known.startsWith(key)) peers.delete(known);
  peers.add(id);
  suggestTarget();
  showPeers();
}

function showPeers() {
  const chips = [...peers].map((id) => {
    const chip = element("button", "peer", short(id));
    chip.type = "button";
    chip.title = id;
    chip.dataset.testid = "peer";
    chip.dataset.page = id;
    chip.setAttribute("aria-pressed", String($("level").value === "page" && $("target").value === id));
    chip.setAttribute("aria-label", `push to page ${id}`);
    chip.style.setProperty("--hue", hue(id));
    chip.addEventListener("click", () => choose("page", id));
    return chip;
  });
  if (chips.length > 0) $("peers").replaceChildren(...chips);
}

function choose(level, id) {
  $("level").value = level;
  $("target").value = id;
  showPeers();
  showCommand();
}

/** The target that fits the level: the newest other page, or this page's own session, connection or user. */
function suggestTarget() {
  const { user, connection_id, session_id, page_id } = page.registered;
  const own = { session: session_id, connection: connection_id, user: user ?? "" };
  const level = $("level").value;
  choose(level, level === "page" ? ([...peers].at(-1) ?? page_id) : own[level]);
}

function showCommand() {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const server = location.origin === DEFAULT_SERVER ? "" : ` --url ${location.origin}`;
  const target = `--${$("level").value} ${quoted($("target").value)}`;
  const payload = quoted(JSON.stringify({ text: $("text").value }));
  $("cli").textContent = `pagewire push${server} ${target} ${payload}`;
}

$("level").addEventListener("change", suggestTarget);
$("target").addEventListener("input", () => (showPeers(), showCommand()));
$("text").addEventListener("input", showCommand);

$("push").addEventListener("submit", async (event) => {
  event.preventDefault();
  const to = { [$("level").value]: $("target").value };
  await answer($("reach"), page.send(to, { text: $("text").value }), ({ reached, held }) => {
    const away = held > 0 ? `, held for ${held} that will be back` : "";
    return `reached ${reached} ${reached === 1 ? "page" : "pages"}${away}`;
  });
});

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("cli").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // not allowed here: select it, so that one key copies it
    getSelection().selectAllChildren($("cli"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 2_000);
});

const EXAMPLES = { sum: "[1, 2, 3]", echo: '{"hello": "world"}', time: "null", sleep: '{"ms": 1000}', fail: '"on purpose"' };

function suggestParams() {
  $("params").value = EXAMPLES[$("method").value];
}

$("method").addEventListener("change", suggestParams);

$("call").addEventListener("submit", async (event) => {
  event.preventDefault();
  let params;
  try {
    params = JSON.parse($("params").value || "null");
  } catch (error) {
    return answer($("answer"), Promise.reject(error));
  }
  $("latency").textContent = "";
  const begun = performance.now();
  await answer($("answer"), page.call($("method").value, params), (value) => JSON.stringify(value ?? null));
  $("latency").textContent = `in ${(performance.now() - begun).toFixed(1)} ms`;
});

async function answer(output, promise, text) {
  output.classList.remove("failed");
  output.textContent = "…";
  try {
    output.textContent = text(await promise);
  } catch (error) {
    output.classList.add("failed");
    output.textContent = `${error.code ?? "not JSON"}: ${error.message}`;
  }
}

suggestParams();
page.connect().catch(complain);
