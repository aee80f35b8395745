/** How long a document without a reply from the server may keep the others waiting. */
const PATIENCE_MS = 5_000;
const LOCK = "pagewire.entrance";

/**
 * Lets one document of a browser at a time send `hello` without any id: the first one opens a connection, and the later
 * ones find it and join it. A Web Lock is held from before the storage is read until the server has replied. Without
 * Web Locks (an insecure origin) every document opens a connection of its own.
 */
export class Entrance {
  #turn = 0;
  #release: (() => void) | undefined;

  /** Resolves when it is this document's turn, or when it has waited long enough to continue without the lock. */
  async enter(): Promise<void> {
    if (this.#release || typeof navigator === "undefined" || !navigator.locks) return;
    const turn = ++this.#turn;
    await new Promise<void>((entered) => {
      const keep = (): Promise<void> | undefined => {
        entered();
        // the wait has been given up
        if (turn !== this.#turn) return undefined;
        return new Promise((release) => (this.#release = release));
      };
      const signal = AbortSignal.timeout(PATIENCE_MS);
      navigator.locks.request(LOCK, { signal }, keep).catch(() => entered());
    });
  }

  /** Lets the next document continue. */
  leave(): void {
    this.#turn += 1;
    this.#release?.();
    this.#release = undefined;
  }
}
