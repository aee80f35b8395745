/** Where the user's token comes from: given once, or asked for when there is none or the last was refused. */
export class TokenSource {
  #provider: (() => string | Promise<string>) | undefined;
  #token: string | undefined;
  #renewed = false;

  constructor(source: string | (() => string | Promise<string>) | undefined) {
    if (typeof source === "function") this.#provider = source;
    else this.#token = source;
  }

  /** The present token; `undefined` for an anonymous page. */
  async get(): Promise<string | undefined> {
    this.#token ??= await this.#provider?.();
    return this.#token;
  }

  /** A token that the server has accepted meanwhile. */
  replace(token: string): void {
    this.#token = token;
  }

  /** The server has accepted the token. */
  accepted(): void {
    this.#renewed = false;
  }

  /**
   * The server has refused it. Whether coming back makes sense: with a new token from the provider, once or `again`
   * and again; without any token of ours (a cookie carries it) as the server says.
   */
  renew(again: boolean): boolean {
    if (!this.#provider) return again && this.#token === undefined;
    const sensible = again || !this.#renewed;
    this.#renewed = true;
    this.#token = undefined;
    return sensible;
  }
}
