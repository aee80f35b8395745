// The shared form: every page that shows the same tree writes its fields, and sees what the others write.
import { page } from "/_pagewire/page.js";
import { offer } from "/_pagewire/allowed.js";
import { $, hue, reason, short } from "/_pagewire/view.js";

/** Where in the tree. */
const PATH = "start.form";

let view;

/** A field that shows what stands in the tree, except while something newer is on its way there. */
class Field {
  #input;
  #busy = false;
  #stale = false;

  constructor(input) {
    this.#input = input;
    // a text is written letter by letter
    input.addEventListener(input.tagName === "SELECT" ? "change" : "input", () => this.#write());
  }

  get path() {
    return this.#input.name;
  }

  show() {
    const value = String(view.value?.[this.path] ?? "");
    if (!this.#busy && this.#input.value !== value) this.#input.value = value;
  }

  /** One write at a time: what is typed meanwhile is the next one. */
  async #write() {
    this.#stale = true;
    if (this.#busy) return;
    this.#busy = true;
    const written = view;
    let revision = 0;
    try {
      while (this.#stale) {
        this.#stale = false;
        revision = await written.set(this.path, this.#input.value);
      }
      complain("");
    } catch (error) {
      complain(reason(error));
    }
    this.#busy = this.#stale = false;
    // news of what was written may still be on their way: they will show it, the view does not yet
    if (view !== written || view.revision >= revision) this.show();
  }
}

const fields = [...$("form").querySelectorAll("[name]")].map((input) => new Field(input));

function complain(text) {
  $("refused").textContent = text;
}

/** All that is shown comes from the view. */
function show() {
  for (const field of fields) field.show();
  $("revision").textContent = view.revision === 0 ? "nothing written yet" : `revision ${view.revision}`;
}

/** Who wrote last, as far as this page has seen. */
function author(name, from = "") {
  $("author").hidden = name === "";
  $("author").textContent = name;
  $("author").style.setProperty("--hue", hue(from));
}

function watch() {
  view?.close();
  view = page.watch($("tree").value, PATH);
  complain("");
  author("");
  view.on("change", ({ changes, from, own }) => {
    show();
    if (own) author("written by this page", from);
    else if (from) author(`written by ${short(from)}`, from);
    // what was told as a whole has no author
    else author(changes.some(({ path }) => path === "") ? "" : "written by a program");
  });
  view.on("error", (error) => complain(reason(error)));
  show();
  // not known yet
  $("revision").textContent = "";
  view.ready.then(show, () => undefined);
}

$("tree").addEventListener("change", watch);
offer($("tree"), $("write-missing"), "write");
watch();
