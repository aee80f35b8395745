// What the parts of the start page show things with.

/** The element of that id. */
export const $ = (id) => document.getElementById(id);

/** A color and a short form by which people tell ids apart. */
export const hue = (id) => [...id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
export const short = (id) => `${id.slice(0, 6)}…${id.slice(id.indexOf("|"))}`;

const LONGEST_LOG = 500;

export function element(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

/** A line of what this page has seen; a message is told apart from what only happened. */
export function log(text, { kind = "event", seq, from } = {}) {
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

/** What an error says, with its code; a text that is not JSON has none. */
export const reason = (error) => `${error.code ?? "not JSON"}: ${error.message}`;

export function complain(error) {
  log(`${error.code ?? error.name}: ${error.message}`);
}

/** Shows what comes of a promise. */
export async function answer(output, promise, text) {
  output.classList.remove("failed");
  output.textContent = "…";
  try {
    output.textContent = text(await promise);
  } catch (error) {
    output.classList.add("failed");
    output.textContent = reason(error);
  }
}

/** A field that always holds an example for what was chosen, until somebody writes into it. */
export function suggest(choice, field, examples) {
  const show = () => (field.value = examples[choice.value]);
  choice.addEventListener("change", show);
  show();
}
