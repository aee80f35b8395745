// Pagewire's browser client, built from clients/js/src: do not edit. Apache-2.0
/** How a job can end. */
export type JobEnd = "succeeded" | "failed" | "cancelled" | "dead";
/** The reason why a request failed or a page closed. Programs use `code`, people read `message`. */
export declare class PagewireError extends Error {
    /**
     * The server's codes (`forbidden`, `unknown`, `timeout`, `no_executor`, …) and the client's own: `uncertain` (the
     * request was sent and its reply is lost: it may or may not have been processed), `closed` (it was never sent),
     * `origin` (the server's `websocket.origins` does not list the origin of this page), `cancelled` (the caller
     * cancelled it), `overflow` (too many requests are waiting), and `timeout` and `too_large` with the same meaning as
     * the server's.
     */
    readonly code: string;
    /** Whether the same request can succeed later. */
    readonly retryable: boolean;
    /** How a job ended: `failed`, `cancelled` or `dead`. Absent if the job did not end, and for everything else. */
    readonly state: JobEnd | undefined;
    constructor(code: string, message: string, retryable?: boolean, state?: JobEnd);
}
/** The types of a handler: what it takes and returns. */
export interface MethodTypes {
    params: unknown;
    result: unknown;
}
/** The handlers of a server by their names. `pagewire types --ts` writes such an interface. */
export type ApiMap<Api> = {
    [Name in keyof Api]: MethodTypes;
};
/** A page without a map of its handlers: every name, any parameters. */
export interface UntypedApi {
}
/** The name of a handler that no map describes; with a map there is none. */
export type UntypedName<Api> = [keyof Api] extends [never] ? string : never;
/** The name of a method of a resident page without its class: what follows the first dot of a name of the map. */
export type ObjectMethod<Api> = MethodOf<keyof Api>;
type MethodOf<Name> = Name extends `${string}.${infer Method}` ? Method : never;
/** The method of the class, or of each class that has one of this name. */
export type ObjectHandler<Api extends ApiMap<Api>, Method extends string> = [keyof Api] extends [never] ? MethodTypes : {
    [Name in keyof Api]: Name extends `${string}.${infer Own}` ? (Own extends Method ? Api[Name] : never) : never;
}[keyof Api];
/** What follows the name of a handler: its parameters, which may be missing if it needs none, and options. */
export type Args<Handler extends MethodTypes, Options> = null extends Handler["params"] ? [params?: Handler["params"] | undefined, options?: Options] : undefined extends Handler["params"] ? [params?: Handler["params"], options?: Options] : [params: Handler["params"], options?: Options];
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
    limits: {
        max_frame: number;
        frames_per_second: number;
    };
    /** The permissions of a page without a role, within its own chain: levels that it may write to, and send to. */
    allow?: {
        write: string[];
        send: string[];
    };
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
    reset: {
        reason: string;
    };
    /** The page belongs to this user from now on. */
    identity: {
        user: string;
    };
    /** The page has a new address, because its node has another number. */
    address: {
        page_id: string;
    };
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
    progress: {
        progress: number;
        message?: string;
    };
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
/**
 * The level of a tree: each page has its own tree, and shares one with all pages of its session, connection and user.
 */
export type Level = "user" | "connection" | "session" | "page";
/** A change to make in a tree. */
export type Edit = {
    path: string;
    value: unknown;
} | {
    path: string;
    delete: true;
};
/** A change that was made. */
export type Change = Edit & {
    /** The page that made the change; absent if it was a program. */
    from?: string;
};
/** Options of a write. */
export interface WriteOptions {
    /** Write only if the tree is at this revision, otherwise reject with `conflict`; 0 for a tree that does not exist. */
    if_revision?: number;
}
/** The value at a path. */
export interface Reading<Value = unknown> {
    /** `undefined` if there is no value. */
    value: Value | undefined;
    /** The tree's revision. It grows with every change, not always by one; 0 for a tree that does not exist. */
    revision: number;
}
/** The events of a view. */
export interface ViewEvents {
    /** The value has changed. */
    change: {
        /** The changes in order, with paths below the view; one at the path "" replaces the whole value. */
        changes: readonly Change[];
        /** The page that made the last of them; absent if it was a program or is unknown. */
        from: string | undefined;
        /** This page made all of them. */
        own: boolean;
    };
    /** The tree was removed with all its values. The view also shows a new tree. */
    removed: object;
    /** The server does not let this page watch the path: the view has ended. */
    error: PagewireError;
}
/**
 * The value at a path of a tree, kept current over lost sockets, migrations to other nodes and resets, until it is
 * closed. Paths of edits and changes are relative to the path of the view.
 */
export interface View<Value = unknown> {
    readonly level: Level;
    /** The path in the tree; "" for the whole tree. */
    readonly path: string;
    /** Resolves when the server has sent the value for the first time; rejects if it refuses. */
    readonly ready: Promise<void>;
    /** The last value from the server; `undefined` if there is none. Changes create new objects: do not modify these. */
    readonly value: Value | undefined;
    /** The tree's revision at the last update of the path. */
    readonly revision: number;
    /** Calls `listener` for each event until the returned function is called. */
    on<Type extends keyof ViewEvents>(type: Type, listener: (event: ViewEvents[Type]) => void): () => void;
    /** Writes a value and resolves with the tree's revision. The view shows it when the server sends the change. */
    set(path: string, value: unknown, options?: WriteOptions): Promise<number>;
    /** Deletes the value at a path. */
    delete(path: string, options?: WriteOptions): Promise<number>;
    /** Applies all of these edits or none. */
    patch(edits: readonly Edit[], options?: WriteOptions): Promise<number>;
    /** Closes the view; the value remains as it is. */
    close(): void;
}
/** Options of a subscription. */
export interface SubscribeOptions {
    /** Returns a token that names the topic, for a topic that is not public. Called each time the page subscribes. */
    token?: () => string | Promise<string>;
}
/** The events of a subscription. */
export interface SubscriptionEvents {
    /** A message for the topic. */
    message: Message;
    /**
     * The page could not subscribe. If the error is `retryable`, it tries again by itself; otherwise the subscription has
     * ended.
     */
    error: PagewireError;
}
/**
 * A subscription to a topic, over lost sockets, migrations to other nodes, resets and new pages, until it is closed.
 */
export interface Subscription {
    readonly topic: string;
    /** Resolves when messages for the topic reach this page; rejects if the subscription ends before. */
    readonly ready: Promise<void>;
    /** Calls `listener` for each event until the returned function is called. */
    on<Type extends keyof SubscriptionEvents>(type: Type, listener: (event: SubscriptionEvents[Type]) => void): () => void;
    /** Sends to all pages of the topic, including this one, once the page is subscribed. The server has to allow it. */
    send(payload: unknown): Promise<Delivery>;
    /**
     * Closes the subscription. The last one of a topic unsubscribes the page and resolves when the server has done so.
     */
    close(): Promise<void>;
}
/** Escapes any key as one step of a path: `escape("james.wilson")` is `james\.wilson`. */
export declare function escape(key: string): string;
/** Joins paths, each below the previous one: `join("users", escape(name), "age")`. Empty paths are skipped. */
export declare function join(...paths: string[]): string;
/** Splits a path into its keys, from the root: `split("users.james\\.wilson")` is `["users", "james.wilson"]`. */
export declare function split(path: string): string[];
/** Typed events. A listener that throws does not stop the other listeners. */
declare class Emitter<Events extends object> {
    #private;
    /** Calls `listener` for each event until the returned function is called. */
    on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void;
    /** Calls all listeners of an event. */
    protected emit<Type extends keyof Events>(type: Type, event: Events[Type]): void;
}
/** The object that a resident page has at its server. Its calls go to the pool of its class. */
export declare class PageObject<Api extends ApiMap<Api> = UntypedApi> {
    #private;
    /** Its class, as `hello` names it; `undefined` for a page without an object. */
    readonly resident: ResidentClass | undefined;
    constructor(resident: string | ResidentClass | undefined, call: (method: string, params: unknown, options?: CallOptions) => Promise<unknown>);
    /** Calls a method of the object: `call("add")` of a `Counter` is `Counter.add` of the page. */
    call<M extends ObjectMethod<Api>>(method: M, ...rest: Args<ObjectHandler<Api, M>, CallOptions>): Promise<ObjectHandler<Api, M>["result"]>;
    call<Result = unknown>(method: UntypedName<Api>, params?: unknown, options?: CallOptions): Promise<Result>;
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
 * With a map of the handlers (`new Pagewire<Api>()`) calls and jobs are checked against it.
 */
export declare class Pagewire<Api extends ApiMap<Api> = UntypedApi> extends Emitter<PagewireEvents> {
    #private;
    /** The object of a resident page: `page.object.call("add", { by: 2 })`. */
    readonly object: PageObject<Api>;
    constructor(options?: PagewireOptions);
    /** The connection state. */
    get state(): State;
    /** The identity and the node of this page; `undefined` before the first registration. */
    get registered(): Registered | undefined;
    /**
     * Opens the page, or resumes it after a reload. Resolves with the first registration and rejects when the server
     * refuses; in between it keeps trying. After a refusal (for example `replaced`) it may be called again and opens a
     * new page.
     */
    connect(): Promise<Registered>;
    /** Closes the page for good: a later `connect()` opens another one. */
    close(): void;
    /**
     * Calls a method and resolves with its result. Rejects with the handler's error, with `timeout`, with `cancelled`
     * when its signal was aborted, or with `uncertain` when the page was reset before the reply arrived.
     */
    call<N extends keyof Api & string>(method: N, ...rest: Args<Api[N], CallOptions>): Promise<Api[N]["result"]>;
    call<Result = unknown>(method: UntypedName<Api>, params?: unknown, options?: CallOptions): Promise<Result>;
    /**
     * Submits a durable job. Its end reaches this page over lost sockets, migrations and resets; after a reload of the
     * document it arrives as the event `job`.
     */
    job<N extends keyof Api & string>(kind: N, ...rest: Args<Api[N], JobOptions>): Job<Api[N]["result"]>;
    job<Result = unknown>(kind: UntypedName<Api>, data?: unknown, options?: JobOptions): Job<Result>;
    /** Sends a message to a page, or to all pages of a session, connection, user or topic. */
    send(to: Target, payload: unknown): Promise<Delivery>;
    /** Sends a message to all pages of this session. */
    broadcast(payload: unknown): Promise<Delivery>;
    /**
     * Chooses the lane of this user (or of this browser, without a user) in a pool, or the base lane, where the rollout allows it;
     * `null` takes the choice back. Resolves with the lane that follows.
     */
    rollout(pool: string, lane: string | null): Promise<ChosenLane>;
    /** Subscribes to a topic until the subscription is closed. All subscriptions of one topic share one at the server. */
    subscribe(topic: string, options?: SubscribeOptions): Subscription;
    /** Watches a path of a tree and keeps its value current. Throws if the path is invalid. */
    watch<Value = unknown>(level: Level, path?: string): View<Value>;
    /** Reads the value at a path of a tree once. */
    get<Value = unknown>(level: Level, path?: string): Promise<Reading<Value>>;
    /** Writes a value into a tree and creates missing branches above it. Resolves with the tree's revision. */
    set(level: Level, path: string, value: unknown, options?: WriteOptions): Promise<number>;
    /** Applies all of these edits of a tree or none. Resolves with the tree's revision. */
    patch(level: Level, edits: readonly Edit[], options?: WriteOptions): Promise<number>;
    /** Logs in, or renews a token before it expires. Later sockets use it too. */
    auth(token: string): Promise<void>;
}
export {};
