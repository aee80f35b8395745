/** A reloaded document waits this long for its predecessor to let go of the page. */
const HANDOVER_MS = 300;

/**
 * One document per page, by a Web Lock on the page's id. A duplicated tab comes with a copy of sessionStorage:
 * it finds the lock taken and must not resume the original's page. Where Web Locks are missing (an insecure
 * origin), nothing can be claimed and a document never resumes what another one opened.
 */
export class Tab {
  #key: string | undefined;
  #release: (() => void) | undefined;

  /** Tries to make a remembered page this document's. */
  async claim(pageId: string): Promise<"ours" | "taken" | "unknown"> {
    const key = lockName(pageId);
    if (this.#key === key) return "ours";
    if (!locks()) return "unknown";
    return (await this.#lock(key)) ? "ours" : "taken";
  }

  /** Keeps a page that the server has just given to this document. */
  hold(pageId: string): void {
    const key = lockName(pageId);
    if (this.#key === key) return;
    this.release();
    this.#key = key;
    if (locks()) void this.#lock(key);
  }

  #lock(key: string): Promise<boolean> {
    return new Promise((locked) => {
      navigator.locks
        .request(key, { signal: AbortSignal.timeout(HANDOVER_MS) }, () => {
          locked(true);
          return new Promise<void>((release) => {
            this.#key = key;
            this.#release = release;
          });
        })
        .catch(() => locked(false));
    });
  }

  /** Lets go, so that the next document of this tab may resume the page. */
  release(): void {
    this.#release?.();
    this.#release = undefined;
    this.#key = undefined;
  }
}

/** The page moves between nodes, its first 22 characters stay. */
function lockName(pageId: string): string {
  return `pagewire.page.${pageId.split("|")[0]}`;
}

function locks(): boolean {
  return typeof navigator !== "undefined" && navigator.locks !== undefined;
}
