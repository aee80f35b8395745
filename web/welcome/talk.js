// Talking: the other pages of this session, and pushes to them from here or from a terminal.
import { PagewireError } from "/pagewire.js";
import { page } from "/_pagewire/page.js";
import { offer } from "/_pagewire/allowed.js";
import { $, answer, complain, element, hue, log, short } from "/_pagewire/view.js";

/** Other pages of this session, as far as they announced themselves. */
const peers = new Set();
/** Messages of these pages among themselves carry this member. */
const GREETING = "pagewire_start_page";
/** The id under which the others know this page. */
let announced;
/** Where the command line looks for a server by itself. */
const DEFAULT_SERVER = "http://127.0.0.1:8080";

page.on("registered", ({ page_id, recovered }) => {
  const same = announced === page_id && recovered === "recovered";
  // whoever is still there answers
  if (!same) peers.clear();
  suggestTarget();
  if (same) return;
  announced = page_id;
  page.broadcast({ [GREETING]: "here" }).catch(complain);
});
for (const change of ["identity", "address"]) page.on(change, suggestTarget);

page.on("message", ({ payload, from, seq }) => {
  const greeting = payload?.[GREETING];
  const own = from === page.registered.page_id;
  if (greeting === undefined) return log(readable(payload), { kind: "message", seq, from });
  log(own ? "this page announced itself to its session" : "a page of this session announced itself", { seq, from });
  if (own || from === undefined) return;
  if (greeting === "here") page.send({ page: from }, { [GREETING]: "me too" }).catch(complain);
  meet(from);
});

function readable(payload) {
  const text = typeof payload === "object" && payload !== null && Object.keys(payload).join() === "text";
  return text ? payload.text : JSON.stringify(payload);
}

function meet(id) {
  const key = id.split("|")[0];
  for (const known of peers) if (known.startsWith(key)) peers.delete(known);
  peers.add(id);
  suggestTarget();
  showPeers();
}

/** It does not exist any more. */
function part(id) {
  peers.delete(id);
  suggestTarget();
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
  const hint = element("p", "hint", "Open a second page: its id appears here.");
  $("peers").replaceChildren(...(chips.length > 0 ? chips : [hint]));
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
offer($("level"), $("send-missing"), "send");
$("target").addEventListener("input", () => (showPeers(), showCommand()));
$("text").addEventListener("input", showCommand);

$("push").addEventListener("submit", async (event) => {
  event.preventDefault();
  const to = { [$("level").value]: $("target").value };
  await answer($("reach"), send(to, { text: $("text").value }), ({ reached, held }) => {
    const away = held > 0 ? `, held for ${held} that will be back` : "";
    return `reached ${reached} ${reached === 1 ? "page" : "pages"}${away}`;
  });
});

/** A page of this session that the server knows no more is one no more. */
async function send(to, payload) {
  const peer = peers.has(to.page);
  try {
    const report = await page.send(to, payload);
    if (!peer || report.reached + report.held > 0) return report;
  } catch (error) {
    if (!peer || !["unknown", "forbidden"].includes(error.code)) throw error;
  }
  part(to.page);
  throw new PagewireError("unknown", "that page has gone");
}

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
