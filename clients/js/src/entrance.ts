/** A document that gets no answer from the server does not keep the others out for longer than this. */
const PATIENCE_MS = 5_000;
const LOCK = "pagewire.entrance";

/**
 * One document of a browser at a time says `hello` without any id: the one that comes first opens a connection, and
 * those after it find that and join it. A Web Lock, held from before what is stored is read until the server has
 * answered. Without Web Locks (an insecure origin) every document goes its own way.
 */
export class Entrance {
  #turn = 0;
  #release: (() => void) | undefined;

  /** Resolves when it is this document's turn, or when waiting any longer is worth less than going on. */
  async enter(): Promise<void> {
    if (this.#release || typeof navigator === "undefined" || !navigator.locks) return;
    const turn = ++this.#turn;
    await new Promise<void>((entered) => {
      const keep = (): Promise<void> | undefined => {
        entered();
        // given up meanwhile
        if (turn !== this.#turn) return undefined;
        return new Promise((release) => (this.#release = release));
      };
      const signal = AbortSignal.timeout(PATIENCE_MS);
      navigator.locks.request(LOCK, { signal }, keep).catch(() => entered());
    });
  }

  /** Lets the next one in. */
  leave(): void {
    this.#turn += 1;
    this.#release?.();
    this.#release = undefined;
  }
}
