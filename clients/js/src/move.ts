import type { Link } from "./link.js";
import type { ServerFrame } from "./types.js";

/** The longest time in ms from opening the second socket to `registered`. */
export const MOVE_MS = 4_000;

/** What a move needs from its page. */
export interface Surroundings {
  /** Opens a second socket. Throws if this document may not open one there. */
  connect(url: string): Link;
  /** Handles a move that found no other node. `left`: the first socket has ended meanwhile. */
  failed(left: boolean): void;
}

/**
 * A second socket that takes the page over, while the first one serves it until then. Each address is tried once, and
 * the page stays where it is if none accepts it.
 */
export class Move {
  readonly #from: Link;
  readonly #urls: string[];
  readonly #page: Surroundings;
  #to: Link | undefined;
  /** The address that the server named, for a page that loses its first socket before it has moved. */
  readonly named: string | undefined;
  /** A second socket has said `hello`, so another node may have the page already. */
  #asked = false;
  /** The first socket has ended since. */
  #left = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;

  constructor(from: Link, urls: string[], delayMs: number, page: Surroundings) {
    this.#from = from;
    this.#urls = urls;
    this.named = urls[0];
    this.#page = page;
    // a browser delays the timers of a hidden document, perhaps until the first socket is closed
    if (isHidden()) queueMicrotask(() => !this.#ended && this.#next());
    else this.#timer = setTimeout(() => this.#next(), delayMs);
  }

  /** Whether a second socket waits for its `registered`. */
  get asking(): boolean {
    return this.#to?.greeted ?? false;
  }

  /** Handles the end of a socket. Returns whether the move goes on, so that the page need not notice. */
  ended(link: Link): boolean {
    if (link === this.#to) {
      this.#next();
      return true;
    }
    this.#asked ||= this.asking;
    this.#left = this.#asked;
    return this.#left;
  }

  /** Ends the move, because a second socket has the page, or the page needs none. */
  end(taken?: Link): void {
    clearTimeout(this.#timer);
    this.#ended = true;
    if (this.#to !== taken) this.#to?.leave();
    if (taken) this.#from.leave();
  }

  #next(): void {
    this.#asked ||= this.asking;
    this.#to = undefined;
    for (let url; (url = this.#urls.shift()) !== undefined; ) {
      try {
        this.#to = this.#page.connect(url);
        return;
      } catch {
        // forbidden from this document (e.g. a ws: address in an https: page)
      }
    }
    this.#page.failed(this.#left);
  }
}

/**
 * Returns the addresses of a `move`, in the order in which they are tried. A page that is not there yet can only be opened
 * at the address named; another one also tries the address that it knows, where a proxy may lead to another node.
 */
export function targets(frame: ServerFrame, own: string, registered: boolean): string[] {
  const named = typeof frame["url"] === "string" && isFor(frame["url"], own) ? [frame["url"]] : [];
  return registered && !named.includes(own) ? [...named, own] : named;
}

/** Returns the delay of a `move` in ms. */
export function delayOf(frame: ServerFrame): number {
  const delay = Number(frame["retry_after_ms"]);
  return delay > 0 ? delay : 0;
}

/** Whether a page of `own` may follow an address: from elsewhere, a loopback address is that of another machine. */
function isFor(url: string, own: string): boolean {
  try {
    const { protocol, hostname } = new URL(url);
    return /^wss?:$/.test(protocol) && (!isLoopback(hostname) || isLoopback(new URL(own).hostname));
  } catch {
    return false;
  }
}

function isHidden(): boolean {
  return typeof document !== "undefined" && document.hidden;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\./.test(hostname);
}
