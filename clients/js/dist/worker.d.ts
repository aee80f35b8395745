// Pagewire's handlers in Node, built from clients/js/src: do not edit. Apache-2.0
/// <reference lib="esnext.disposable" />
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
/** Why work has to stop: a person or program has cancelled it, its time is over, or the child has to end. */
export type CancelReason = "cancelled" | "deadline" | "drain";
/** The value has been changed by another writer since it was read. A job that fails with it is tried again. */
export declare class Conflict extends PagewireError {
    constructor(message: string, retryable?: boolean);
}
/**
 * A handler throws it to run again later: `throw new Retry("the bank is closed", { afterMs: 30_000 })`. A job is tried
 * again if it has retries left. Without `afterMs` the server chooses the delay.
 */
export declare class Retry extends Error {
    readonly afterMs: number | undefined;
    constructor(message?: string, options?: {
        afterMs?: number;
    });
}
/** A handler throws it to fail for good, with a code of its own: `throw new Fail("no_stock", "sold out")`. */
export declare class Fail extends Error {
    readonly code: string;
    constructor(code: string, message: string);
}
/** The work has to stop. It is the reason of `ctx.signal`; a handler lets it through. */
export declare class Cancelled extends Error {
    readonly reason: CancelReason;
    constructor(reason: CancelReason);
}
/** The types of JSON in a schema. */
export type JsonType = "string" | "number" | "integer" | "boolean" | "null" | "object" | "array";
/**
 * The part of JSON Schema that parameters are checked against. Other keywords are refused at registration, because
 * they would not be checked.
 */
export interface JsonSchema {
    readonly type?: JsonType | readonly JsonType[];
    readonly enum?: readonly unknown[];
    readonly const?: unknown;
    readonly anyOf?: readonly JsonSchema[];
    readonly properties?: {
        readonly [name: string]: JsonSchema;
    };
    readonly required?: readonly string[];
    readonly additionalProperties?: boolean | JsonSchema;
    readonly items?: JsonSchema;
    readonly minItems?: number;
    readonly maxItems?: number;
    readonly minLength?: number;
    readonly maxLength?: number;
    readonly pattern?: string;
    readonly minimum?: number;
    readonly maximum?: number;
    /** An annotation, like `description`, `title`, `default` and `examples`: not checked. */
    readonly format?: string;
    readonly title?: string;
    readonly description?: string;
    readonly default?: unknown;
    readonly examples?: readonly unknown[];
}
/** The type of the values that a schema accepts; `any` where the schema does not say it. */
export type FromSchema<Schema> = Schema extends {
    readonly const: infer Value;
} ? Value : Schema extends {
    readonly enum: readonly (infer Value)[];
} ? Value : Schema extends {
    readonly anyOf: readonly (infer One)[];
} ? FromSchema<One> : Schema extends {
    readonly type: infer Type;
} ? FromType<Type extends readonly (infer One)[] ? One : Type, Schema> : any;
type FromType<Type, Schema> = Type extends "string" ? string : Type extends "number" | "integer" ? number : Type extends "boolean" ? boolean : Type extends "null" ? null : Type extends "array" ? Schema extends {
    readonly items: infer Item;
} ? FromSchema<Item>[] : any[] : Schema extends {
    readonly properties: infer Properties;
} ? FromProperties<Properties, Schema extends {
    readonly required: readonly (infer Name)[];
} ? Name : never> : Schema extends {
    readonly additionalProperties: infer Item extends JsonSchema;
} ? Record<string, FromSchema<Item>> : Record<string, any>;
type FromProperties<Properties, Required> = {
    -readonly [Name in keyof Properties as Name extends Required ? Name : never]: FromSchema<Properties[Name]>;
} & {
    -readonly [Name in keyof Properties as Name extends Required ? never : Name]?: FromSchema<Properties[Name]>;
};
/** Options of a handler. */
export interface HandlerOptions<Schema extends JsonSchema = JsonSchema> {
    /** Where its work runs if the caller does not say it: at `any` executor, or at the one `assigned` to the user. */
    mode?: "any" | "assigned";
    /** How often a failed job is tried again if its submitter does not say it. */
    retries?: number;
    /** After so many milliseconds the work is cancelled. */
    timeoutMs?: number;
    /** Which calls run one after the other: those of a `user` or of a `page`. */
    serial?: "user" | "page";
    /** The schema of the parameters, which are checked. Others are answered with `malformed` and the name of the first. */
    schema?: Schema;
    /** The schema of the result, for `pagewire types`. It is not checked. */
    returns?: JsonSchema;
    /** What the handler does, for people. */
    doc?: string;
}
/** The function of a handler. What it returns is the result; `undefined` is `null`. */
export type HandlerFunction<Params, Result> = (ctx: Context, params: Params) => Result | Promise<Result>;
/** The handlers of a program. */
export interface App {
    /** Registers a handler. Throws if its name or an option is not possible. */
    handle<const Schema extends JsonSchema, Result>(name: string, options: HandlerOptions<Schema> & {
        schema: Schema;
    }, run: HandlerFunction<FromSchema<Schema>, Result>): App;
    handle<Params = any, Result = unknown>(name: string, options: HandlerOptions, run: HandlerFunction<Params, Result>): App;
    handle<Params = any, Result = unknown>(name: string, run: HandlerFunction<Params, Result>): App;
    /**
     * Runs the handlers as a child of Pagewire. Resolves when the child was asked to end and its work has ended; the
     * process exits at the latest 2 s later. Exits at once with 1 if the process was not started by Pagewire.
     */
    run(): Promise<void>;
}
/** The context of a piece of work: a call or an attempt of a job. */
export interface Context {
    /** The name of the handler. */
    readonly method: string;
    /** The id of the job; absent in a call. */
    readonly job: string | undefined;
    /** The number of this attempt, from 1. */
    readonly attempt: number;
    /** How many attempts may follow if this one fails. */
    readonly left: number;
    /** The W3C `traceparent` of the work. */
    readonly trace: string | undefined;
    /** The user that the work runs for. */
    readonly user: Recipient;
    /** The page that asked for the work, wherever it is now. */
    readonly page: Recipient;
    /** The session of the page. */
    readonly session: Recipient;
    /** The connection of the page: a browser or device. */
    readonly connection: Recipient;
    /** When the time of the work is over, on the clock of `performance.now()`. */
    readonly deadline: number;
    /** The milliseconds until the deadline; 0 after it. */
    readonly remaining: number;
    /** Aborted with `Cancelled` when the work has to stop. */
    readonly signal: AbortSignal;
    /** Why the work has to stop; absent while it may continue. */
    readonly cancelled: CancelReason | undefined;
    /** Throws `Cancelled` if the work has to stop. */
    check(): void;
    /** Reports the progress, from 0 to 1, to the page that waits for the work. */
    progress(progress: number, message?: string): void;
    /**
     * Iterates, reports the progress, lets other work run and stops when the work has to stop. `total` is the number of
     * items, by default that of an array, set or map; without it no progress is reported.
     */
    track<Item>(items: Iterable<Item> | AsyncIterable<Item>, total?: number): AsyncIterable<Item>;
    /** Ends this attempt and puts the job off, without counting it as an attempt. */
    snooze(ms: number): never;
    /** Sends a message to the pages of a target. */
    send(to: PushTarget, payload: unknown): Promise<Reach>;
    /** Sends a message to all pages. */
    broadcast(payload: unknown): Promise<Reach>;
    /** The state trees. */
    readonly state: State;
    /** Durable jobs that this handler submits. */
    readonly jobs: Jobs;
    /** Calls a handler and resolves with its result. */
    call<Result = unknown>(method: string, params?: unknown, options?: CallOptions): Promise<Result>;
    /**
     * Acquires a lock of the cluster, which is renewed until `release()` is called, or to the end of the block with
     * `await using lock = await ctx.lock("stock")`. Rejects with `locked` if another holder has it.
     */
    lock(name: string, options?: LockOptions): Promise<Lock>;
    /** Lines of the server's log that name the work. */
    readonly log: Log;
}
/** The user, page, session or connection of the work, as a target of messages. */
export interface Recipient {
    /** Absent if the work has none. */
    readonly id: string | undefined;
    /** Sends a message to its pages. It reaches no page if the work has none. */
    send(payload: unknown): Promise<Reach>;
}
/** The target of a message: exactly one of them. */
export type PushTarget = {
    page: string;
} | {
    session: string;
} | {
    connection: string;
} | {
    user: string;
} | {
    topic: string;
} | {
    all: true;
};
/** The pages that a message has reached: with an open socket, and in their resume window. */
export interface Reach {
    reached: number;
    held: number;
}
/** The level of a tree. */
export type Level = "user" | "connection" | "session" | "page";
/** The trees that the work belongs to, and those of others. */
export interface State extends Record<Level, Tree> {
    /** The tree of another user, connection, session or page. */
    of(level: Level, id: string): Tree;
}
/** The value at a path and the revision of its tree. */
export interface Reading<Value = unknown> {
    /** Absent if there is no value. */
    value: Value | undefined;
    revision: number;
}
/** A change of a tree. */
export type Change = {
    path: string;
    value: unknown;
} | {
    path: string;
    delete: true;
};
/** Options of a write. */
export interface WriteOptions {
    /** Write only if the tree is at this revision; otherwise reject with `Conflict`. */
    ifRevision?: number;
}
/** One state tree. Paths are written `wizard.form.name`; the empty path is the whole tree. */
export interface Tree {
    /** Returns the value at a path, or `fallback` if there is none. */
    get<Value = any>(path?: string, fallback?: Value): Promise<Value>;
    /** Returns the value at a path with the revision of the tree, for a later `ifRevision`. */
    read<Value = any>(path?: string): Promise<Reading<Value>>;
    /** Writes a value. Resolves, like all writes, with the revision of the tree. */
    set(path: string, value: unknown, options?: WriteOptions): Promise<number>;
    /** Deletes the value or branch at a path. */
    delete(path: string, options?: WriteOptions): Promise<number>;
    /** Makes all of these changes or none. */
    patch(changes: readonly Change[], options?: WriteOptions): Promise<number>;
    /**
     * Reads the tree, calls `change` with a copy and writes its changes, all or none. Rejects with `Conflict` and writes
     * nothing if another writer was first; nothing is written either if `change` throws.
     */
    edit(change: (draft: Draft) => unknown): Promise<number>;
    /** Does the same again after each conflict, so `change` may be called several times. */
    update(change: (draft: Draft) => unknown): Promise<number>;
}
/** A copy of a tree that collects changes. Paths consist of keys only. */
export interface Draft {
    /** The revision of the tree that was read. */
    readonly revision: number;
    /** Returns the value at a path. An object or array may be changed in place: that is written with the other changes. */
    get<Value = any>(path?: string, fallback?: Value): Value;
    has(path: string): boolean;
    set(path: string, value: unknown): void;
    /** Deletes the value at a path, if there is one. */
    delete(path: string): void;
}
/** Options of a job. */
export interface SubmitOptions {
    /** The user that the job runs for: by default that of the work; `null` for none. */
    user?: string | null;
    mode?: "any" | "assigned";
    pool?: string;
    /** The milliseconds until it may begin. */
    delayMs?: number;
    retries?: number;
    /** A second job with the same key within a day is the first one. */
    key?: string;
}
/** A job as it is now. */
export interface JobRecord {
    id: string;
    kind: string;
    state: string;
    attempts: number;
    progress?: number;
    result?: unknown;
    error?: {
        code: string;
        message: string;
        retryable: boolean;
    };
}
/** Durable jobs. */
export interface Jobs {
    /** Submits a job for the handler `kind`. Resolves with its id. */
    submit(kind: string, data?: unknown, options?: SubmitOptions): Promise<string>;
    /** Returns a job. */
    get(job: string): Promise<JobRecord>;
    /** Cancels a job. Resolves with its state. */
    cancel(job: string): Promise<string>;
}
/** Options of a call. */
export interface CallOptions {
    user?: string | null;
    mode?: "any" | "assigned";
    pool?: string;
    timeoutMs?: number;
}
/** Options of a lock. */
export interface LockOptions {
    /** How long the lock is held without a renewal; 30 s by default. */
    ttlMs?: number;
    /** How long to wait for another holder; by default not at all. */
    waitMs?: number;
}
/** A lock that is held: a lease. */
export interface Lock extends AsyncDisposable {
    readonly name: string;
    /** A number that only grows from holder to holder. */
    readonly token: number;
    /** Whether it was renewed in time, and no other holder has it. */
    readonly held: boolean;
    /** Releases it. It is not released when the work ends. */
    release(): Promise<void>;
}
/** Lines of the server's log: `ctx.log.info("paid", { amount: 3 })`. */
export interface Log {
    debug(message: string, fields?: Record<string, unknown>): void;
    info(message: string, fields?: Record<string, unknown>): void;
    warn(message: string, fields?: Record<string, unknown>): void;
    error(message: string, fields?: Record<string, unknown>): void;
}
/** Options of an application. */
export interface AppOptions {
    /** How much work the child takes at a time; by default the configuration of the pool decides. */
    slots?: number;
}
/**
 * Returns an application without handlers.
 *
 * ```js
 * const app = worker();
 * app.handle("thumb", { mode: "any", retries: 3 }, async (ctx, params) => resize(params, ctx.signal));
 * await app.run();
 * ```
 */
export declare function worker(options?: AppOptions): App;
export {};
