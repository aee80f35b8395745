// The page of the store room: it polls for the changes of others.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const one = (selector) => document.querySelector(selector);
const { page } = read("settings");
const POLL_MS = 2000;
let shown = read("shown");

async function request(path, params) {
  const token = document.cookie.match(/csrftoken=([^;]+)/)?.[1] ?? "";
  const options = params && { method: "POST", body: JSON.stringify(params), headers: { "X-CSRFToken": token }, keepalive: true };
  const answer = await fetch(path, options);
  if (answer.status === 401 || answer.status === 410) location.reload();
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

async function act(method, params = {}) {
  one("#error").textContent = "";
  try {
    shown = await request(`/page/${page}/${method}`, params);
    draw();
  } catch (error) {
    one("#error").textContent = error.message;
  }
}

/** Applies changes, in any order and also twice: a row or notice counts if it is newer than what is shown. */
function apply(changes) {
  for (const change of changes) {
    if ("notice" in change) {
      if (change.revision > shown.notice.revision) shown.notice = { text: change.notice, revision: change.revision };
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
  setTimeout(poll, POLL_MS);
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
