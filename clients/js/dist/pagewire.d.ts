// Pagewire's browser client, built from clients/js/src: do not edit. Apache-2.0
/** Why a request failed or a page closed. Programs decide by `code`, people read `message`. */
export declare class PagewireError extends Error {
    /**
     * The server's codes (`forbidden`, `unknown`, `timeout`, `no_executor`, …) and the client's own:
     * `uncertain` (it was sent, the answer is lost: it may or may not have happened), `closed` (it was never
     * sent), `origin` (the server's `websocket.origins` does not list this page's), `cancelled` (somebody wanted it no more), `overflow` (too much is waiting), `timeout` and `too_large` as
     * the server means them.
     */
    readonly code: string;
    /** Whether the same request can succeed later. */
    readonly retryable: boolean;
    /** How a job ended: `failed`, `cancelled` or `dead`. Absent when it did not end, and for all that is no job. */
    readonly state: JobEnd | undefined;
    constructor(code: string, message: string, retryable?: boolean, state?: JobEnd);
}
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
    limits: {
        max_frame: number;
        frames_per_second: number;
    };
    /** What a page without a role may do within its own chain: levels that it may write, and send to. */
    allow?: {
        write: string[];
        send: string[];
    };
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
    reset: {
        reason: string;
    };
    /** The page belongs to this user from here on. */
    identity: {
        user: string;
    };
    /** The page has a new address: its node came back with another number. */
    address: {
        page_id: string;
    };
    /** News of a job of this page that this document did not submit. */
    job: JobNews;
    /** The server could not take a frame, or the token provider failed. */
    error: PagewireError;
    /** A frame of a type that this client does not know. */
    frame: ServerFrame;
}
/** Who gets a message: exactly one of them. */
export type Target = {
    page: string;
} | {
    session: string;
} | {
    connection: string;
} | {
    user: string;
} | {
    topic: string;
};
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
    progress: {
        progress: number;
        message?: string;
    };
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
/** Whose tree: each page has one of its own, and one with all pages of its session, connection and user. */
export type Level = "user" | "connection" | "session" | "page";
/** What is to change in a tree. */
export type Edit = {
    path: string;
    value: unknown;
} | {
    path: string;
    delete: true;
};
/** What has changed. */
export type Change = Edit & {
    /** The page that asked for it; absent when it came from a program. */
    from?: string;
};
/** Options of a write. */
export interface WriteOptions {
    /** Only if the tree is at this revision, else it rejects with `conflict`; 0 for a tree that does not exist. */
    if_revision?: number;
}
/** What stands at a path. */
export interface Reading<Value = unknown> {
    /** `undefined` where nothing stands. */
    value: Value | undefined;
    /** The tree's revision: it grows with every change, not always by one; 0 for a tree that does not exist. */
    revision: number;
}
/** The events of a view. */
export interface ViewEvents {
    /** The value is another one. */
    change: {
        /** In order, with paths below the view; one at the path "" replaces all of it. */
        changes: readonly Change[];
        /** The page that asked for the last of them; absent when that was a program, or nobody knows. */
        from: string | undefined;
        /** This page asked for all of them. */
        own: boolean;
    };
    /** The tree is gone, with everything in it. A new one shows here too. */
    removed: object;
    /** The server does not let this page watch the path: the view has ended. */
    error: PagewireError;
}
/**
 * What stands at a path of a tree, kept current over lost sockets, moves to other nodes and resets, until it is closed.
 * Paths of edits and changes are below that of the view.
 */
export interface View<Value = unknown> {
    readonly level: Level;
    /** Where in the tree; "" for all of it. */
    readonly path: string;
    /** Resolves with the first word of the server about the value; rejects when it refuses. */
    readonly ready: Promise<void>;
    /** As the server said last; `undefined` where nothing stands. Later changes make new objects: do not change these. */
    readonly value: Value | undefined;
    /** The tree's revision of the last news about the path. */
    readonly revision: number;
    /** Listens until the returned function is called. */
    on<Type extends keyof ViewEvents>(type: Type, listener: (event: ViewEvents[Type]) => void): () => void;
    /** Writes a value; resolves with the tree's revision. The view shows it when the server tells of it. */
    set(path: string, value: unknown, options?: WriteOptions): Promise<number>;
    /** Deletes what stands at a path. */
    delete(path: string, options?: WriteOptions): Promise<number>;
    /** Makes all of these edits or none. */
    patch(edits: readonly Edit[], options?: WriteOptions): Promise<number>;
    /** The end: the value stays as it is. */
    close(): void;
}
/** Options of a subscription. */
export interface SubscribeOptions {
    /** For a topic that is not open to all: asked for a token that names it, each time the page subscribes. */
    token?: () => string | Promise<string>;
}
/** The events of a subscription. */
export interface SubscriptionEvents {
    /** A message for the topic. */
    message: Message;
    /**
     * The page could not subscribe. If the error is `retryable` it tries again by itself; else the subscription has
     * ended.
     */
    error: PagewireError;
}
/** Messages for a topic, over lost sockets, moves to other nodes, resets and new pages, until it is closed. */
export interface Subscription {
    readonly topic: string;
    /** Resolves when messages for the topic reach this page; rejects when the subscription has ended before. */
    readonly ready: Promise<void>;
    /** Listens until the returned function is called. */
    on<Type extends keyof SubscriptionEvents>(type: Type, listener: (event: SubscriptionEvents[Type]) => void): () => void;
    /** Sends to all pages of the topic, this one too, as soon as the page is subscribed; the server has to allow it. */
    send(payload: unknown): Promise<Delivery>;
    /** The end. The last one of a topic unsubscribes the page; resolves when the server has done so. */
    close(): Promise<void>;
}
/** Any key as one step of a path: `escape("james.wilson")` is `james\.wilson`. */
export declare function escape(key: string): string;
/** Paths one below the other: `join("users", escape(name), "age")`. Empty ones are skipped. */
export declare function join(...paths: string[]): string;
/** The keys of a path, from the root: `split("users.james\\.wilson")` is `["users", "james.wilson"]`. */
export declare function split(path: string): string[];
/** Typed events. A listener that throws does not keep the others from hearing. */
declare class Emitter<Events extends object> {
    #private;
    /** Listens until the returned function is called. */
    on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    /** Tells all listeners. */
    protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void;
}
/**
 * One page: it stays the same over lost sockets, restarts of its node and reloads of its document.
 *
 * ```js
 * const page = new Pagewire();
 * page.on("message", ({ payload }) => console.log(payload));
 * await page.connect();
 * const sum = await page.call("sum", [1, 2, 3]);
 * ```
 */
export declare class Pagewire extends Emitter<PagewireEvents> {
    #private;
    constructor(options?: PagewireOptions);
    /** The connection state. */
    get state(): State;
    /** Who and where this page is; `undefined` before the first registration. */
    get registered(): Registered | undefined;
    /**
     * Opens the page, or resumes it after a reload. Resolves with the first registration, rejects when the server
     * refuses; in between it keeps trying. After a refusal (`replaced`, for one) it may be called again and opens a
     * new page.
     */
    connect(): Promise<Registered>;
    /** Closes the page for good: a later `connect()` opens another one. */
    close(): void;
    /**
     * Calls a method and resolves with its result. Rejects with the handler's error, with `timeout`, with `cancelled`
     * when its signal was aborted, or with `uncertain` when the page was reset before the answer came.
     */
    call<Result = unknown>(method: string, params?: unknown, options?: CallOptions): Promise<Result>;
    /**
     * Submits durable work. Its end reaches this page over lost sockets, moves and resets; after a reload of the
     * document it comes as the event `job`.
     */
    job<Result = unknown>(kind: string, data?: unknown, options?: JobOptions): Job<Result>;
    /** Sends a message to a page, or to all pages of a session, connection, user or topic. */
    send(to: Target, payload: unknown): Promise<Delivery>;
    /** Sends a message to all pages of this session. */
    broadcast(payload: unknown): Promise<Delivery>;
    /** Messages for a topic, until the subscription is closed. Those of one topic share what the server knows of them. */
    subscribe(topic: string, options?: SubscribeOptions): Subscription;
    /** Shows what stands at a path of a tree, and keeps it current. A path that is none throws. */
    watch<Value = unknown>(level: Level, path?: string): View<Value>;
    /** Reads once what stands at a path of a tree. */
    get<Value = unknown>(level: Level, path?: string): Promise<Reading<Value>>;
    /** Writes a value into a tree, and branches above it where there are none. Resolves with the tree's revision. */
    set(level: Level, path: string, value: unknown, options?: WriteOptions): Promise<number>;
    /** Makes all of these edits of a tree or none. Resolves with the tree's revision. */
    patch(level: Level, edits: readonly Edit[], options?: WriteOptions): Promise<number>;
    /** Logs in, or renews a token before it expires; later sockets use it too. */
    auth(token: string): Promise<void>;
}
export {};
