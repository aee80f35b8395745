import type { Registered, ServerFrame, WebSocketConstructor } from "./types.js";

/** The events of a link. */
export interface LinkEvents {
  registered(frame: Registered): void;
  frame(frame: ServerFrame): void;
  /** The last event of a link. */
  closed(code: number, reason: string): void;
}

const SUBPROTOCOL = "pagewire.v1";
/** The longest time from opening the socket to `registered`. */
const REGISTER_MS = 15_000;
/** The longest time in which a live server replies to a ping. */
const PONG_MS = 5_000;
/** The close code that a browser reports without a close frame; also used for a socket that the client gave up. */
const ABNORMAL = 1006;

/** One WebSocket from `hello` to its close. It never reconnects: a page opens another link. */
export class Link {
  #socket: WebSocket;
  #events: LinkEvents;
  #greeted = false;
  #registered = false;
  #over = false;
  #heardAt = Date.now();
  #quietMs = 0;
  /** Runs from opening to `registered`, then between two checks for silence, then from a ping to its reply. */
  #timer: ReturnType<typeof setTimeout>;
  #doubting = false;

  /** `hello` is asked for its members when the socket is open. */
  constructor(
    implementation: WebSocketConstructor,
    url: string,
    hello: () => object,
    events: LinkEvents,
    patienceMs = REGISTER_MS,
  ) {
    this.#events = events;
    this.#socket = new implementation(url, [SUBPROTOCOL]);
    this.#timer = setTimeout(() => this.drop("the server did not answer"), patienceMs);
    this.#socket.onopen = () => this.#greet(hello());
    this.#socket.onmessage = (event: MessageEvent) => this.#heard(event.data);
    // the package `ws` throws an error that has no listener; the close that follows is enough
    this.#socket.onerror = () => undefined;
    this.#socket.onclose = (event: CloseEvent) => this.#end(event.code, event.reason);
  }

  /** Whether `hello` was sent. */
  get greeted(): boolean {
    return this.#greeted;
  }

  /** Whether the server has accepted `hello`. */
  get registered(): boolean {
    return this.#registered;
  }

  /** Sends a frame. A closing socket drops it, and the page sends it again on the next one. */
  write(frame: object | string): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  /** Pings the server, because the socket may be dead without a close event (sleep, a changed network). */
  doubt(): void {
    if (this.#over || !this.#registered || this.#doubting) return;
    this.#doubting = true;
    this.write({ type: "ping" });
    this.#arm(PONG_MS, () => this.drop("the server fell silent"));
  }

  /** Closes the socket without waiting for the other side. */
  drop(reason: string): void {
    this.#socket.close();
    this.#end(ABNORMAL, reason);
  }

  /** Closes the link, permanently or for now. No more events are reported. */
  leave(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#socket.close(1000);
  }

  #greet(hello: object): void {
    this.#greeted = true;
    this.write({ type: "hello", ...hello });
  }

  #heard(data: unknown): void {
    if (this.#over) return;
    this.#heardAt = Date.now();
    const frame = parse(data);
    if (!frame) return this.drop("the server sent something that is not a frame");
    if (frame.type === "registered") {
      this.#registered = true;
      const registered = frame as unknown as Registered;
      // browsers hide the server's pings; twice their interval without a frame counts as silence
      this.#quietMs = Math.max(1000, registered.ping_ms * 2);
      this.#listen();
      this.#events.registered(registered);
      return;
    }
    if (this.#doubting) this.#listen();
    this.#events.frame(frame);
  }

  #listen(): void {
    this.#doubting = false;
    this.#arm(this.#quietMs, () => {
      const quiet = Date.now() - this.#heardAt;
      if (quiet >= this.#quietMs) this.doubt();
      else this.#listen();
    });
  }

  #arm(delay: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, delay);
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#events.closed(code, reason);
  }
}

function parse(data: unknown): ServerFrame | undefined {
  if (typeof data !== "string") return undefined;
  try {
    const frame: unknown = JSON.parse(data);
    const shaped = typeof frame === "object" && frame !== null && "type" in frame && typeof frame.type === "string";
    return shaped ? (frame as ServerFrame) : undefined;
  } catch {
    return undefined;
  }
}
