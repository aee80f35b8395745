import { Pagewire } from "../src/pagewire.js";
import type { IdentityStorage, PagewireOptions, WebSocketConstructor } from "../src/types.js";

export interface ClientFrame {
  type: string;
  id?: string;
  [member: string]: unknown;
}

/** The server's end of an in-memory socket. */
export class FakeSocket {
  readonly OPEN = 1;
  url = "";
  readyState = 0;
  onopen: () => void = () => undefined;
  onmessage: (event: { data: string }) => void = () => undefined;
  onclose: (event: { code: number; reason: string }) => void = () => undefined;
  onerror: (() => void) | undefined;
  readonly frames: ClientFrame[] = [];

  /** Receives text from the client. */
  send(text: string): void {
    this.frames.push(JSON.parse(text) as ClientFrame);
  }

  close(code = 1005): void {
    this.readyState = 3;
    this.frames.push({ type: "close", code });
  }

  /** Returns the client's frames of a type. */
  of(type: string): ClientFrame[] {
    return this.frames.filter((frame) => frame.type === type);
  }

  /** Accepts the socket; the client sends `hello`. */
  open(): void {
    this.readyState = 1;
    this.onopen();
  }

  /** Replies to `hello`. */
  register(recovered: "new" | "recovered" | "reset", members: object = {}): void {
    if (this.readyState === 0) this.open();
    this.push({
      type: "registered",
      ...{ connection_id: "c|p01", session_id: "s|p01", page_id: "p|p01", user: null, node: "p01", lane: "stable" },
      ...{ release: "dev", token: "t1", recovered, seq: 0, pos: 0, received: 0, ping_ms: 25_000 },
      limits: { max_frame: 65_536, frames_per_second: 100 },
      ...members,
    });
  }

  push(frame: object): void {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  /** Ends the socket, as the server or the network does. */
  end(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

/** A socket that never opens, as the package `ws` reports it: an error without a listener is thrown. */
export function fail(socket: FakeSocket): void {
  if (!socket.onerror) throw new Error("connect ECONNREFUSED");
  socket.onerror();
  socket.end(1006);
}

export class MemoryStorage implements IdentityStorage {
  readonly items = new Map<string, string>();

  getItem(key: string): string | null {
    return this.items.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    this.items.set(key, value);
  }

  removeItem(key: string): void {
    this.items.delete(key);
  }
}

export interface Bench {
  page: Pagewire;
  sockets: FakeSocket[];
  /** Waits until the client has opened `count` sockets and returns the newest. */
  socket(count: number): Promise<FakeSocket>;
}

/** Creates a page with in-memory sockets. */
export function bench(options: PagewireOptions = {}): Bench {
  const sockets: FakeSocket[] = [];
  class Socket extends FakeSocket {
    constructor(url: string) {
      super();
      this.url = url;
      sockets.push(this);
    }
  }
  const page = new Pagewire({
    url: "ws://server.test/_ws",
    backoff: { base_ms: 1, cap_ms: 1 },
    WebSocket: Socket as unknown as WebSocketConstructor,
    ...options,
  });
  const socket = async (count: number): Promise<FakeSocket> => {
    for (let turn = 0; turn < 100_000; turn++) {
      const newest = sockets[count - 1];
      if (newest) return newest;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error(`socket ${count} was not opened`);
  };
  return { page, sockets, socket };
}

/** Installs Web Locks that are always free. Returns a function that removes them. */
export function withLocks(): () => void {
  const request = (_name: string, _options: object, keep: (lock: object) => unknown): Promise<unknown> =>
    Promise.resolve(keep({}));
  Object.defineProperty(navigator, "locks", { value: { request }, configurable: true });
  return () => Reflect.deleteProperty(navigator, "locks");
}
