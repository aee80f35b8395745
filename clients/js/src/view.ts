import { Deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import type { PagewireError } from "./error.js";
import { join } from "./path.js";
import type { Replica } from "./replica.js";
import type { Edit, Level, View, ViewEvents, WriteOptions } from "./state.js";

/** The operations of a view on its tree. */
export interface Tree {
  patch(edits: readonly Edit[], options?: WriteOptions): Promise<number>;
  set(path: string, value: unknown, options?: WriteOptions): Promise<number>;
  close(): void;
}

/** One of the views of a watched path. */
export class LiveView<Value> extends Emitter<ViewEvents> implements View<Value> {
  readonly level: Level;
  readonly path: string;
  readonly #ready = new Deferred<void>();
  readonly #tree: Tree;
  #value: unknown;
  #revision = 0;

  constructor(level: Level, path: string, tree: Tree) {
    super();
    this.level = level;
    this.path = path;
    this.#tree = tree;
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get value(): Value | undefined {
    return this.#value as Value | undefined;
  }

  get revision(): number {
    return this.#revision;
  }

  async set(path: string, value: unknown, options?: WriteOptions): Promise<number> {
    return this.#tree.set(join(this.path, path), value, options);
  }

  delete(path: string, options?: WriteOptions): Promise<number> {
    return this.patch([{ path, delete: true }], options);
  }

  async patch(edits: readonly Edit[], options?: WriteOptions): Promise<number> {
    return this.#tree.patch(edits.map((edit) => ({ ...edit, path: join(this.path, edit.path) })), options);
  }

  close(): void {
    this.#tree.close();
  }

  /** Shows the value that the server has sent. */
  show({ value, revision }: Replica, news?: ViewEvents["change"]): void {
    this.#value = value;
    this.#revision = revision;
    this.#ready.resolve();
    if (news) this.emit("change", news);
  }

  /** Reports that the tree was removed. */
  removed(): void {
    this.emit("removed", {});
  }

  /** Reports that the server does not let this page watch the path. */
  refuse(error: PagewireError): void {
    this.#ready.reject(error);
    this.emit("error", error);
  }
}
