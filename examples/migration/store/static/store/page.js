// The page of the store room: it polls for the changes of others, and receives them at once when it has a socket.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const one = (selector) => document.querySelector(selector);
const { page, topic, resident, connection } = read("settings");
const POLL_MS = 2000;
const POLL_BESIDE_SOCKET_MS = 30_000;
let shown = read("shown");
let hasSocket = false;
let socket; // with a resident page: where its object is called
let live = ""; // the id of the page of the socket

async function request(path, params) {
  const token = document.cookie.match(/csrftoken=([^;]+)/)?.[1] ?? "";
  const headers = { "X-CSRFToken": token, "X-Pagewire-Page": live };
  const options = params ? { method: "POST", body: JSON.stringify(params), headers, keepalive: true } : { headers };
  const answer = await fetch(path, options);
  if (answer.status === 401 || answer.status === 410) location.reload();
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

async function act(method, params = {}) {
  one("#error").textContent = "";
  try {
    const isCalled = resident && hasSocket;
    show(isCalled ? await socket.object.call("act", { method, params }) : await request(`/page/${page}/${method}`, params));
  } catch (error) {
    one("#error").textContent = error.message;
  }
}

/** Shows what a request has answered, but no notice that is older than the one that is shown. */
function show(next) {
  const { notice } = shown;
  shown = next;
  if (notice.revision > shown.notice.revision) shown.notice = notice;
  draw();
}

/** Applies changes, in any order and also twice: a row or notice counts if it is newer than what is shown. */
function apply(changes) {
  for (const change of changes) {
    if ("notice" in change) {
      if (change.notice.revision > shown.notice.revision) shown.notice = change.notice;
      continue;
    }
    const at = shown.rows.findIndex((row) => row.item === change.item);
    if (at >= 0 && change.revision > shown.rows[at].revision) shown.rows[at] = change;
    if (at < 0 && change.name.toLowerCase().includes(shown.filter.toLowerCase())) shown.rows.push(change);
  }
  draw();
}

function draw() {
  one("#notice").textContent = shown.notice.text;
  one("#moved").textContent = shown.moved;
  one("#undo").disabled = shown.undo === 0;
  one("#rows").replaceChildren(...shown.rows.map(line));
}

function line({ item, name, count }) {
  const row = document.createElement("tr");
  for (const text of [name, count]) row.insertCell().textContent = text;
  const cell = row.insertCell();
  for (const by of [-1, 1]) {
    const button = document.createElement("button");
    button.textContent = by > 0 ? "Put one in" : "Take one";
    button.addEventListener("click", () => act("move", { item, by }));
    cell.append(button, " ");
  }
  return row;
}

async function poll() {
  try {
    const { changes, reset } = await request(`/page/${page}/poll`);
    if (reset) location.reload();
    apply(changes);
    const here = await request("/here");
    one("#here").textContent = Object.entries(here).map(([user, pages]) => `${user} (${pages})`).join(", ");
  } catch (error) {
    one("#error").textContent = error.message;
  }
  setTimeout(poll, hasSocket ? POLL_BESIDE_SOCKET_MS : POLL_MS);
}

/** Opens the socket of this page. Without one, polling goes on as it always has. */
async function listen() {
  const { Pagewire } = await import("/pagewire.js");
  socket = new Pagewire(resident ? { resident } : {});
  socket.on("registered", ({ page_id }) => (live = page_id));
  socket.on("state", ({ state }) => {
    hasSocket = state === "open";
    one("#push").textContent = hasSocket ? "pushed" : "polls";
  });
  socket.on("reset", () => location.reload());
  socket.subscribe(topic).on("message", ({ payload }) => apply(payload.changes));
  await socket.connect();
  if (resident) show(await socket.object.call("begin", { page, connection }));
}

one("#filter").text.value = shown.filter;
one("#filter").addEventListener("submit", (event) => {
  event.preventDefault();
  act("filter", { text: event.target.text.value });
});
one("#undo").addEventListener("click", () => act("undo"));
addEventListener("pagehide", () => request(`/page/${page}/close`, {}));
draw();
poll();
if (topic) listen().catch((error) => console.warn(`no socket: ${error.message}`));
