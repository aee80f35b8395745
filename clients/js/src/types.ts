import type { PagewireError } from "./error.js";

/**
 * - `connecting`: opening a new page
 * - `open`: registered, frames flow
 * - `recovering`: opening a socket to resume the page
 * - `waiting`: between two attempts (`retry_at` says until when)
 * - `closed`: not connected and not trying: before `connect()`, after `close()`, or refused by the server
 */
export type State = "connecting" | "open" | "recovering" | "waiting" | "closed";

/** A change of state. */
export interface StateChange {
  state: State;
  previous: State;
  /** The close code of the last socket, for `waiting` and `closed`. */
  code?: number;
  /** What the server said, or what went wrong. */
  reason?: string;
  /** When the next attempt begins (ms since 1970), for `waiting`. */
  retry_at?: number;
}

/** The server's answer to a new socket: who and where this page is. */
export interface Registered {
  connection_id: string;
  session_id: string;
  page_id: string;
  /** Absent or null: anonymous. */
  user?: string | null;
  /** The node that holds the socket. */
  node: string;
  lane: string;
  release: string;
  /** What resuming this page needs. */
  token: string;
  /** `recovered`: every missed frame follows. `reset`: something was missed. */
  recovered: "new" | "recovered" | "reset";
  seq: number;
  pos: number;
  received: number;
  ping_ms: number;
  limits: { max_frame: number; frames_per_second: number };
  /** What a page without a role may do within its own chain: levels that it may write, and send to. */
  allow?: { write: string[]; send: string[] };
}

/** A pushed message. */
export interface Message {
  payload: unknown;
  seq: number;
  /** The page that sent it; absent when it came from the server API. */
  from?: string;
  /** The topic that it was for; absent when it was for this page in another way. */
  topic?: string;
  pos?: number;
}

/** A frame as it came. */
export interface ServerFrame {
  type: string;
  seq?: number;
  [member: string]: unknown;
}

/** The events of a page. */
export interface PagewireEvents {
  /** The connection state changed. */
  state: StateChange;
  /** A socket is registered, for the first time or again. */
  registered: Registered;
  /** A pushed message, those for topics too. */
  message: Message;
  /** Something was missed and will not come: load what the page shows afresh. */
  reset: { reason: string };
  /** The page belongs to this user from here on. */
  identity: { user: string };
  /** The page has a new address: its node came back with another number. */
  address: { page_id: string };
  /** News of a job of this page that this document did not submit. */
  job: JobNews;
  /** The server could not take a frame, or the token provider failed. */
  error: PagewireError;
  /** A frame of a type that this client does not know. */
  frame: ServerFrame;
}

/** Who gets a message: exactly one of them. */
export type Target =
  | { page: string }
  | { session: string }
  | { connection: string }
  | { user: string }
  | { topic: string };

/** What became of a message. */
export interface Delivery {
  /** Pages with an open socket that got it. */
  reached: number;
  /** Pages within their resume window: they get it when they come back. */
  held: number;
}

/** Options of a call. */
export interface CallOptions {
  /** The longest wait for the answer, also while the server is away. */
  timeout_ms?: number;
  /** Where the handler runs. */
  exec_mode?: "inline" | "any" | "assigned";
  /** Whose workers. */
  pool?: string;
  /** Wants the call no more when it is aborted: it rejects with `cancelled`, and its handler is told to stop. */
  signal?: AbortSignal;
}

/** How a job can end. */
export type JobEnd = "succeeded" | "failed" | "cancelled" | "dead";

/** Options of a job. */
export interface JobOptions {
  /** How often it may run again after a failure. */
  retries?: number;
  /** Not before this time; a text is RFC 3339. */
  run_at?: Date | string;
  /** Whose workers. */
  pool?: string;
  /** Any worker, or the user's own, which runs the user's jobs one after the other. */
  exec_mode?: "any" | "assigned";
  /** The same key with the same content within 24 hours is the same job. */
  idempotency_key?: string;
}

/** The events of a job. */
export interface JobEvents {
  /** It has come this far, 0 … 1. */
  progress: { progress: number; message?: string };
}

/**
 * Durable work, from its submission to its end. It goes on whatever becomes of the page; the page waits for it over
 * lost sockets, moves to other nodes and resets.
 */
export interface Job<Result = unknown> {
  /** Its id, as soon as it is durable: from then on it has exactly one end. */
  readonly accepted: Promise<string>;
  /**
   * What its handler returned. Rejects with how it ended (`error.state` is `failed`, `cancelled` or `dead`), or with
   * why it never began or its end is lost (`error.state` is absent).
   */
  readonly result: Promise<Result>;
  /** Listens until the returned function is called. */
  on<Type extends keyof JobEvents>(type: Type, listener: (event: JobEvents[Type]) => void): () => void;
  /** Wants it no more. `result` says what came of that: it may have been over already. */
  cancel(): void;
}

/**
 * What became of a job that was submitted before a reload of this document, or by a program on behalf of this page:
 * `progress` on its way, `state` when it is over, `error` alone when the server knows nothing of it any more.
 */
export interface JobNews {
  /** Its id. */
  job: string;
  state?: JobEnd;
  value?: unknown;
  error?: PagewireError;
  progress?: number;
  message?: string;
}

/** What a browser's `WebSocket` offers; any implementation with the same shape will do. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocket;

/** The part of the browser's `Storage` that is used. */
export type IdentityStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/** The back-off between two attempts to connect. */
export interface Backoff {
  /** The window of the first wait, doubled by every failed attempt. */
  base_ms: number;
  /** The largest window. */
  cap_ms: number;
}

/** Options of a page. All have defaults in a browser. */
export interface PagewireOptions {
  /** The server's socket; by default `/_ws` of this origin. */
  url?: string | URL;
  /** The user's token (JWT), or who to ask for it. A provider is asked again when a token is refused. */
  token?: string | (() => string | Promise<string>);
  /** Waits between attempts: by default 500 ms doubling to 20 s, with full jitter. */
  backoff?: Partial<Backoff>;
  /** Which page of its tab this is, when a document has several. By default the tab, or the iframe by its name. */
  slot?: string;
  /** How many requests and jobs may wait at once before new ones fail as `overflow`. By default 1,000. */
  max_pending?: number;
  /** Remembers the connection between tabs: by default `localStorage`; `null` for nothing. */
  local_storage?: IdentityStorage | null;
  /** Remembers session and page of a tab over reloads: by default `sessionStorage`; `null` for nothing. */
  session_storage?: IdentityStorage | null;
  /** By default the global `WebSocket`. */
  WebSocket?: WebSocketConstructor;
}
