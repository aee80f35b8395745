import type { PagewireError } from "./error.js";

/** Whose tree: each page has one of its own, and one with all pages of its session, connection and user. */
export type Level = "user" | "connection" | "session" | "page";

/** What is to change in a tree. */
export type Edit = { path: string; value: unknown } | { path: string; delete: true };

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
