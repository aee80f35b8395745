import { dependent } from "./document.js";
import { Entrance } from "./entrance.js";
import type { Identity } from "./identity.js";
import { Tab } from "./tab.js";

/** Which page a document may resume, and what it joins when it has none: decided before every `hello`. */
export class Claim {
  readonly #identity: Identity;
  readonly #tab = new Tab();
  readonly #entrance = new Entrance();

  constructor(identity: Identity) {
    this.#identity = identity;
  }

  /** Makes sure that a page is resumed only by the document it belongs to, and a connection opened by one document. */
  async settle(): Promise<void> {
    await this.#page();
    if (!this.#identity.blank) return;
    await this.#entrance.enter();
    this.#identity.recall();
  }

  async #page(): Promise<void> {
    const page = this.#identity.page;
    if (!page) return;
    const claim = await this.#tab.claim(page.id);
    if (claim === "ours" && !this.#identity.overtaken()) return;
    // a duplicated tab is a master page of its own; an iframe or an opened window belongs to the session it came from
    if (claim === "taken" && !dependent()) this.#identity.forgetSession();
    else this.#identity.forgetPage();
  }

  /** The server has given a page to this document. */
  hold(page_id: string): void {
    this.#tab.hold(page_id);
    this.#entrance.leave();
  }

  /** There is no answer to wait for any more. */
  leave(): void {
    this.#entrance.leave();
  }

  /** The next document of this tab may resume the page. */
  release(): void {
    this.#tab.release();
  }
}
