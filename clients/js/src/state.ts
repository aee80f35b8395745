import type { PagewireError } from "./error.js";

/**
 * The level of a tree: each page has its own tree, and shares one with all pages of its session, connection and user.
 */
export type Level = "user" | "connection" | "session" | "page";

/** A change to make in a tree. */
export type Edit = { path: string; value: unknown } | { path: string; delete: true };

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
