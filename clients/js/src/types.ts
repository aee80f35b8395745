import type { JobEnd, PagewireError } from "./error.js";

/**
 * The state of the connection:
 *
 * - `connecting`: opening a new page
 * - `open`: registered, frames flow
 * - `recovering`: opening a socket to resume the page
 * - `waiting`: between two attempts, until `retry_at`
 * - `closed`: not connected and not trying: before `connect()`, after `close()`, or refused by the server
 */
export type State = "connecting" | "open" | "recovering" | "waiting" | "closed";

/** A change of state. */
export interface StateChange {
  state: State;
  previous: State;
  /** The close code of the last socket, for `waiting` and `closed`. */
  code?: number;
  /** The server's reason, or the error. */
  reason?: string;
  /** When the next attempt begins (ms since 1970), for `waiting`. */
  retry_at?: number;
}

/** The `registered` frame: the identity and the node of this page. */
export interface Registered {
  connection_id: string;
  session_id: string;
  page_id: string;
  /** Absent or null for an anonymous page. */
  user?: string | null;
  /** The node that holds the socket. */
  node: string;
  lane: string;
  release: string;
  /** The token that resuming this page needs. */
  token: string;
  /** `recovered`: every missed frame follows. `reset`: frames are lost. */
  recovered: "new" | "recovered" | "reset";
  seq: number;
  pos: number;
  received: number;
  ping_ms: number;
  limits: { max_frame: number; frames_per_second: number };
  /** The permissions of a page without a role, within its own chain: levels that it may write to, and send to. */
  allow?: { write: string[]; send: string[] };
}

/** A pushed message. */
export interface Message {
  payload: unknown;
  seq: number;
  /** The page that sent it; absent if it was sent through the server API. */
  from?: string;
  /** The topic of the message; absent if it was addressed in another way. */
  topic?: string;
  pos?: number;
}

/** A frame from the server, unchanged. */
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
  /** A pushed message, including those for topics. */
  message: Message;
  /** Messages are lost: reload everything that the page shows. */
  reset: { reason: string };
  /** The page belongs to this user from now on. */
  identity: { user: string };
  /** The page has a new address, because its node has another number. */
  address: { page_id: string };
  /** The object of this resident page was made, or made again. */
  resident: ResidentNews;
  /** An event of a job of this page that this document did not submit. */
  job: JobNews;
  /** The server could not process a frame, or the token provider failed. */
  error: PagewireError;
  /** A frame of a type that this client does not know. */
  frame: ServerFrame;
}

/** The class of the object that a resident page has at its server. */
export interface ResidentClass {
  class: string;
  /** The pool of the workers that have the class; the default one if it is missing. */
  pool?: string;
}

/** What has become of the object of a resident page. */
export interface ResidentNews {
  class: string;
  /**
   * `open`: it is new. `restored`: it was made again from what the one before it had kept. `rebuilt`: it was made again
   * from its state trees, and what it had in memory is lost.
   */
  state: "open" | "restored" | "rebuilt";
  /** Why it was made again, for example `lost`, `drain` or `idle`. */
  why?: string;
}

/** The target of a message: exactly one of them. */
export type Target =
  | { page: string }
  | { session: string }
  | { connection: string }
  | { user: string }
  | { topic: string };

/** The lane of a user after a choice. */
export interface ChosenLane {
  lane: string;
  /** Why: `choice`, or what comes before a choice, for example `override`. */
  reason: string;
}

/** The result of a message. */
export interface Delivery {
  /** The number of pages with an open socket that received it. */
  reached: number;
  /** The number of pages within their resume window; they receive it when they resume. */
  held: number;
}

/** Options of a call. */
export interface CallOptions {
  /** The longest wait for the reply in ms, including time without a server. */
  timeout_ms?: number;
  /** Where the handler runs. */
  exec_mode?: "inline" | "any" | "assigned";
  /** The pool of workers. */
  pool?: string;
  /** Cancels the call when it is aborted: the call rejects with `cancelled`, and its handler is asked to stop. */
  signal?: AbortSignal;
}

/** Options of a job. */
export interface JobOptions {
  /** How many times it is retried after a failure. */
  retries?: number;
  /** The earliest time to run it; a text is RFC 3339. */
  run_at?: Date | string;
  /** The pool of workers. */
  pool?: string;
  /** Run on any worker, or on the worker assigned to the user, which runs the user's jobs one after the other. */
  exec_mode?: "any" | "assigned";
  /** The same key with the same content within 24 hours returns the same job. */
  idempotency_key?: string;
}

/** The events of a job. */
export interface JobEvents {
  /** Progress from 0 to 1. */
  progress: { progress: number; message?: string };
}

/**
 * A durable job, from its submission to its end. It continues even if the page is closed; the page waits for it over
 * lost sockets, migrations to other nodes and resets.
 */
export interface Job<Result = unknown> {
  /** Its id, once it is durable: from then on it has exactly one end. */
  readonly accepted: Promise<string>;
  /**
   * The handler's result. Rejects with the end of the job (`error.state` is `failed`, `cancelled` or `dead`), or with
   * the reason why it never began or its end is lost (`error.state` is absent).
   */
  readonly result: Promise<Result>;
  /** Calls `listener` for each event until the returned function is called. */
  on<Type extends keyof JobEvents>(type: Type, listener: (event: JobEvents[Type]) => void): () => void;
  /** Cancels the job. `result` shows the outcome, because the job may have ended already. */
  cancel(): void;
}

/**
 * An event of a job that was submitted before a reload of this document, or by a program on behalf of this page:
 * `progress` while it runs, `state` when it has ended, `error` alone when the server no longer knows it.
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

/** The shape of the browser's `WebSocket`; any implementation of it works. */
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
/**
 * Ids of an older deployment: 22 characters of `A-Z`, `a-z`, `0-9` and `_`, or a UUID. A page, session or connection that is
 * new gets the id that is named here, at a server with `compat.adopt_ids`.
 */
export interface OlderIds {
  page_id?: string;
  session_id?: string;
  connection_id?: string;
}

export interface PagewireOptions {
  /** The server's socket; by default `/_ws` of this origin. */
  url?: string | URL;
  /** The user's token (JWT), or a function that returns it. The function is called again when a token is rejected. */
  token?: string | (() => string | Promise<string>);
  /** The class of the object that this page has at its server, if it is a resident page. */
  resident?: string | ResidentClass;
  /** The ids that this page, its session and its connection get if they are new. */
  ids?: OlderIds;
  /** The waits between attempts: by default 500 ms doubling to 20 s, with full jitter. */
  backoff?: Partial<Backoff>;
  /** The slot of this page in its tab, if a document has several pages. By default the tab, or the iframe's name. */
  slot?: string;
  /** The most requests and jobs that may wait at once before new ones fail as `overflow`. By default 1,000. */
  max_pending?: number;
  /** Storage of the connection for all tabs: by default `localStorage`; `null` for none. */
  local_storage?: IdentityStorage | null;
  /** Storage of a tab's session and page for reloads: by default `sessionStorage`; `null` for none. */
  session_storage?: IdentityStorage | null;
  /** The WebSocket implementation: by default the global `WebSocket`. */
  WebSocket?: WebSocketConstructor;
}
