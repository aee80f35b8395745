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

  /** The server has refused it. Whether asking for another makes sense: once, or `again` and again. */
  renew(again: boolean): boolean {
    const sensible = this.#provider !== undefined && (again || !this.#renewed);
    this.#renewed = true;
    if (this.#provider) this.#token = undefined;
    return sensible;
  }
}
