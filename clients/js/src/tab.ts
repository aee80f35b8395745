/** How long a reloaded document waits, in ms, for its predecessor to release the page. */
const HANDOVER_MS = 300;

/**
 * Ensures one document per page by a Web Lock on the page's id. A duplicated tab has a copy of sessionStorage: it finds
 * the lock taken and must not resume the page of the original. Without Web Locks (an insecure origin) no page can be
 * claimed, and a document never resumes a page that another one opened.
 */
export class Tab {
  #key: string | undefined;
  #release: (() => void) | undefined;

  /** Tries to claim a stored page for this document. */
  async claim(pageId: string): Promise<"ours" | "taken" | "unknown"> {
    const key = lockName(pageId);
    if (this.#key === key) return "ours";
    if (!locks()) return "unknown";
    const got = (await this.#lock(key, { ifAvailable: true })) || (await this.#lock(key, { signal: patience() }));
    return got ? "ours" : "taken";
  }

  /** Holds a page that the server has just assigned to this document. */
  hold(pageId: string): void {
    const key = lockName(pageId);
    if (this.#key === key) return;
    this.release();
    this.#key = key;
    if (locks()) void this.#lock(key, {});
  }

  #lock(key: string, options: LockOptions): Promise<boolean> {
    return new Promise((locked) => {
      const keep = (lock: Lock | null): Promise<void> | undefined => {
        locked(lock !== null);
        if (!lock) return undefined;
        this.#key = key;
        return new Promise((release) => (this.#release = release));
      };
      navigator.locks.request(key, options, keep).catch(() => locked(false));
    });
  }

  /** Releases the page, so that the next document of this tab may resume it. */
  release(): void {
    this.#release?.();
    this.#release = undefined;
    this.#key = undefined;
  }
}

function patience(): AbortSignal {
  return AbortSignal.timeout(HANDOVER_MS);
}

/** Returns the name of the lock. A page migrates between nodes, but its first 22 characters stay. */
function lockName(pageId: string): string {
  return `pagewire.page.${pageId.split("|")[0]}`;
}

function locks(): boolean {
  return typeof navigator !== "undefined" && navigator.locks !== undefined;
}
