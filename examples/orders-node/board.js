// The page of the board: it logs in, watches the orders of its user, calls handlers, and follows the report.
import { Pagewire } from "/pagewire.js";

const one = (selector) => document.querySelector(selector);
const by = (name) => one(`[data-testid=${name}]`);
const NEXT = { new: ["packed", "Pack"], packed: ["sent", "Send"], sent: ["new", "Reopen"] };
const NOTES = 6;
const STATES = { open: "connected", connecting: "connecting …", recovering: "resuming …", waiting: "waiting …", closed: "closed" };

async function json(path, body) {
  const options = body && { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

one("#login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await open(by("login-name").value.trim());
    one("#login").hidden = true;
    one("main").hidden = false;
    by("item").focus();
  } catch (error) {
    by("login-error").textContent = error.message;
  }
});

async function open(user) {
  const { socket } = await json("/settings");
  // called again when the token has expired
  const token = async () => (await json("/login", { user })).token;
  const page = new Pagewire({ url: socket, token });
  page.on("state", ({ state }) => {
    by("state").textContent = STATES[state] ?? state;
    by("state").dataset.state = state;
  });
  page.on("message", ({ payload }) => note(payload.note));
  await page.connect();
  by("user").textContent = user;
  one(".who").hidden = false;
  board(page);
  report(page);
}

function note(text) {
  const line = document.createElement("li");
  line.textContent = text;
  by("notes").prepend(line);
  while (by("notes").children.length > NOTES) by("notes").lastChild.remove();
}

/** Runs an action of a person and shows its error. */
async function attempt(action) {
  by("error").textContent = "";
  try {
    await action();
  } catch (error) {
    by("error").textContent = error.message;
  }
}

function board(page) {
  const orders = page.watch("user", "orders");
  orders.on("change", () => draw(page, Object.values(orders.value ?? {})));
  one("#add").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const order = { item: by("item").value, count: Number(by("count").value) };
      await page.call("add_order", { order });
      by("item").value = "";
      by("item").focus();
    });
  });
}

function draw(page, orders) {
  for (const column of document.querySelectorAll(".column")) {
    const mine = orders.filter((order) => order.status === column.dataset.status);
    column.querySelector("span").textContent = mine.length;
    column.querySelector("ul").replaceChildren(...mine.map((order) => card(page, order)));
  }
}

function card(page, { number, item, count, status }) {
  const [next, label] = NEXT[status];
  const line = document.createElement("li");
  const text = document.createElement("span");
  text.className = "grow";
  text.textContent = `#${number} · ${count} × ${item}`;
  const button = document.createElement("button");
  button.className = "quiet";
  button.textContent = label;
  button.dataset.testid = `move-${number}`;
  button.addEventListener("click", () => attempt(() => page.call("move_order", { number, status: next })));
  line.append(text, button);
  return line;
}

function report(page) {
  by("report").addEventListener("click", () =>
    attempt(async () => {
      const job = page.job("report", { seconds: 4 });
      const cancel = () => job.cancel();
      const show = (state, progress) => {
        by("report-state").textContent = state;
        if (progress === undefined) return;
        one("progress").value = progress;
        by("percent").textContent = `${Math.round(progress * 100)} %`;
      };
      show("waiting for an executor", 0);
      job.on("progress", ({ progress }) => show("running", progress));
      by("report").disabled = true;
      by("cancel").disabled = false;
      by("cancel").addEventListener("click", cancel);
      try {
        const { orders, sent, attempt } = await job.result;
        show(`finished at attempt ${attempt}: ${orders} orders, ${sent} sent`, 1);
      } catch (error) {
        show(error.code === "cancelled" ? "cancelled" : error.message);
      } finally {
        by("report").disabled = false;
        by("cancel").disabled = true;
        by("cancel").removeEventListener("click", cancel);
      }
    }),
  );
}
