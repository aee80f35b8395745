// The start page: shows who and where a page is, and how it is connected.
import "/_pagewire/talk.js";
import "/_pagewire/form.js";
import "/_pagewire/call.js";
import "/_pagewire/jobs.js";
import "/_pagewire/handlers.js";
import { page } from "/_pagewire/page.js";
import { $, complain, hue, log, short } from "/_pagewire/view.js";

const OUTCOMES = {
  new: "a new page",
  recovered: "recovered, nothing was missed",
  reset: "reset, something may have been missed",
};

page.on("registered", (registered) => {
  show(registered);
  $("recovered").textContent = OUTCOMES[registered.recovered];
  log(`registered at ${registered.node}: ${OUTCOMES[registered.recovered]}`);
  notice(registered.recovered, { recovered: "Recovered: whatever was missed meanwhile has arrived, in order." });
});

for (const change of ["identity", "address"]) page.on(change, () => show(page.registered));

function show({ user, connection_id, session_id, page_id, node, lane, release }) {
  const facts = { user: user ?? "anonymous", connection: connection_id, session: session_id, page: page_id };
  for (const [id, value] of Object.entries({ ...facts, node, lane, release })) $(id).textContent = value;
  $("page").parentElement.style.setProperty("--hue", hue(page_id));
  document.title = `${short(page_id)} · Pagewire`;
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

page.on("reset", ({ reason }) => {
  $("recovered").textContent = OUTCOMES.reset;
  notice("reset", { reset: "Reset: the server could not continue where this page was. Something may have been missed." });
  log(`reset: ${reason}`);
});
page.on("error", complain);

page.connect().catch(complain);
