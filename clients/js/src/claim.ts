import { dependent } from "./document.js";
import { Entrance } from "./entrance.js";
import type { Identity } from "./identity.js";
import { Tab } from "./tab.js";

/**
 * Decides before every `hello` which page a document may resume, and which connection or session it joins otherwise.
 */
export class Claim {
  readonly #identity: Identity;
  readonly #tab = new Tab();
  readonly #entrance = new Entrance();

  constructor(identity: Identity) {
    this.#identity = identity;
  }

  /** Ensures that a page is resumed only by its own document, and that only one document opens a connection. */
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
    // a duplicated tab is a master page with its own session; an iframe or an opened window keeps its opener's session
    if (claim === "taken" && !dependent()) this.#identity.forgetSession();
    else this.#identity.forgetPage();
  }

  /** Claims a page that the server has assigned to this document. */
  hold(page_id: string): void {
    this.#tab.hold(page_id);
    this.#entrance.leave();
  }

  /** Stops waiting: no reply from the server is expected any more. */
  leave(): void {
    this.#entrance.leave();
  }

  /** Releases the page, so that the next document of this tab may resume it. */
  release(): void {
    this.#tab.release();
  }
}
