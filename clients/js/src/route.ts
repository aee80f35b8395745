/** Where a page opens its sockets: at the address that it knows, or at that of the node that it has moved to. */
export class Route {
  readonly own: string;
  #detour: string | undefined;
  /** The page could not be opened where it belongs, and has to be opened where it arrives. */
  stay = false;

  constructor(own: string) {
    this.own = own;
  }

  /** The addresses for the next socket, in the order in which they are tried. */
  get urls(): string[] {
    return this.#detour === undefined ? [this.own] : [this.#detour, this.own];
  }

  /** Notes that a socket at this address is registered. */
  opened(url: string): void {
    this.#detour = url === this.own ? undefined : url;
    this.stay = false;
  }

  /** Notes that a socket has ended. `named` is the address of a move that had not begun. */
  lost(registered: boolean, named: string | undefined): void {
    if (!registered) this.#detour = undefined;
    else if (named !== undefined) this.#detour = named;
  }
}
