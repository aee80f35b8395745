/**
 * The source of the user's token: a fixed token, or a provider that is called if there is none or the last one was
 * rejected.
 */
export class TokenSource {
  #provider: (() => string | Promise<string>) | undefined;
  #token: string | undefined;
  #renewed = false;

  constructor(source: string | (() => string | Promise<string>) | undefined) {
    if (typeof source === "function") this.#provider = source;
    else this.#token = source;
  }

  /** Returns the current token; `undefined` for an anonymous page. */
  async get(): Promise<string | undefined> {
    this.#token ??= await this.#provider?.();
    return this.#token;
  }

  /** The token that the last socket used, or a later one. */
  get current(): string | undefined {
    return this.#token;
  }

  /** Replaces the token by one that the server has accepted. */
  replace(token: string): void {
    this.#token = token;
  }

  /** Notes that the server has accepted the token. */
  accepted(): void {
    this.#renewed = false;
  }

  /**
   * Handles a rejected token. Returns whether reconnecting makes sense: with a new token from the provider, once or
   * (`again`) repeatedly; without a token here (a cookie carries it), if the server permits it.
   */
  renew(again: boolean): boolean {
    if (!this.#provider) return again && this.#token === undefined;
    const sensible = again || !this.#renewed;
    this.#renewed = true;
    this.#token = undefined;
    return sensible;
  }
}
