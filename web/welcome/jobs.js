// Jobs: submitted here, or left behind by a reload, each with its bar until it is over.
import { page } from "/_pagewire/page.js";
import { $, log, reason, suggest } from "/_pagewire/view.js";

const EXAMPLES = {
  sleep: '{"ms": 5000}',
  hash: '{"rounds": 10000000}',
  sum: "[1, 2, 3]",
  echo: '{"hello": "world"}',
  fail: '"on purpose"',
};
const LONGEST_LIST = 8;

/** One job on the page. */
class Entry {
  #parts;
  #root;

  constructor(title) {
    this.#root = $("job-entry").content.cloneNode(true).firstElementChild;
    const part = (name) => this.#root.querySelector(`.${name}`);
    const names = ["title", "state", "gauge", "percent", "id", "outcome", "cancel"];
    this.#parts = Object.fromEntries(names.map((name) => [name, part(name)]));
    this.#parts.title.textContent = title;
    this.#parts.gauge.setAttribute("aria-label", `progress of ${title}`);
    $("jobs").prepend(this.#root);
    while ($("jobs").childElementCount > LONGEST_LIST) $("jobs").lastElementChild.remove();
  }

  /** Whether it is still on the page. */
  get shown() {
    return this.#root.isConnected;
  }

  cancellable(cancel) {
    this.#parts.cancel.hidden = false;
    this.#parts.cancel.addEventListener("click", () => {
      this.#parts.cancel.disabled = true;
      cancel();
    });
  }

  accepted(id) {
    this.#parts.id.textContent = id;
    if (this.#root.dataset.state === "submitted") this.#state("accepted");
  }

  progress({ progress, message = "" }) {
    this.#state("running");
    this.#fill(progress);
    this.#parts.outcome.textContent = message;
  }

  succeeded(value) {
    this.#fill(1);
    this.#over("succeeded", JSON.stringify(value ?? null));
  }

  /** Cancelled is what somebody wanted, everything else is a failure. */
  failed(error) {
    const cancelled = error.state === "cancelled";
    this.#root.toggleAttribute("data-failed", !cancelled);
    this.#over(error.state ?? error.code, cancelled ? "" : reason(error));
  }

  #over(state, outcome) {
    this.#state(state);
    this.#parts.cancel.hidden = true;
    this.#parts.outcome.textContent = outcome;
    const id = this.#parts.id.textContent;
    log(["job", id, state].filter(Boolean).join(" "));
  }

  #fill(progress) {
    this.#parts.gauge.value = progress;
    this.#parts.percent.textContent = `${Math.floor(progress * 100)} %`;
  }

  #state(state) {
    this.#root.dataset.state = state;
    this.#parts.state.textContent = state;
  }
}

suggest($("kind"), $("data"), EXAMPLES);

$("job").addEventListener("submit", (event) => {
  event.preventDefault();
  $("unreadable").textContent = "";
  try {
    submit($("kind").value, JSON.parse($("data").value || "null"));
  } catch (error) {
    $("unreadable").textContent = reason(error);
  }
});

export function submit(kind, data, options = {}) {
  const entry = new Entry(`${kind} ${JSON.stringify(data)}`);
  const job = page.job(kind, data, options);
  entry.cancellable(() => job.cancel());
  job.on("progress", (step) => entry.progress(step));
  job.accepted.then((id) => entry.accepted(id), () => undefined);
  job.result.then((value) => entry.succeeded(value), (error) => entry.failed(error));
}

/** Jobs that this document has not submitted: from before a reload, or submitted by a program for this page. */
const others = new Map();

page.on("job", (news) => {
  const known = others.get(news.job);
  const entry = known?.shown ? known : new Entry("a job of this page");
  others.set(news.job, entry);
  entry.accepted(news.job);
  if (news.progress !== undefined) entry.progress(news);
  if (news.error) entry.failed(news.error);
  else if (news.state) entry.succeeded(news.value);
  if (news.error || news.state) others.delete(news.job);
});
