// The server's side of state trees, as the protocol describes it, implemented without any code of the client.
import type { FakeSocket } from "./fake.js";

export const below = (limit: number): number => Math.floor(Math.random() * limit);
export const pick = <Item>(items: readonly Item[]): Item => items[below(items.length)] as Item;

type Node = Map<string, Node> | Leaf;
type Leaf = string | number | boolean | null | unknown[];

export const PATHS = ["", "a", "b", "a.a", "a.b", "a.b.a", "b.a", "a.x\\.y", "__proto__", "b.\\#0"];

/** Returns the keys of a path. The model has only a few paths. */
const keysOf = (path: string): string[] =>
  path === "" ? [] : path.split(/(?<!\\)\./).map((key) => key.replaceAll("\\", ""));

function read(value: unknown): Node {
  const branch = typeof value === "object" && value !== null && !Array.isArray(value);
  return branch ? new Map(Object.entries(value).map(([key, child]) => [key, read(child)])) : (value as Leaf);
}

function json(node: Node | undefined): unknown {
  return node instanceof Map ? Object.fromEntries([...node].map(([key, child]) => [key, json(child)])) : node;
}

const text = (value: unknown): string => JSON.stringify(value) ?? "nothing";

/** Returns the value at a path of a whole tree. */
function part(root: unknown, path: string): unknown {
  let node = root;
  for (const key of keysOf(path)) {
    const branch = typeof node === "object" && node !== null && !Array.isArray(node) && Object.hasOwn(node, key);
    node = branch ? (node as Record<string, unknown>)[key] : undefined;
  }
  return node;
}

/** `undefined` deletes. */
interface Edit {
  path: string;
  value: unknown;
  from?: string;
}

interface Happened extends Edit {
  /** The whole tree before and after the edit. */
  before: unknown;
  after: unknown;
}

/** A tree with all its previous values. */
export class Tree {
  #root: Map<string, Node> | undefined;
  revision = 0;
  #newest = 0;
  /** The value at each revision. */
  readonly #past = new Map<number, unknown>([[0, undefined]]);

  /** Returns the value at a path. */
  at(path: string, revision = this.revision): unknown {
    return part(this.#past.get(revision), path);
  }

  /** Applies edits, as a new revision if they change anything. */
  edit(edits: Edit[]): Happened[] {
    this.#root ??= new Map();
    const happened = edits.flatMap((edit) => this.#one(edit));
    if (happened.length > 0) this.#remember(this.#root);
    else if (this.revision === 0) this.#root = undefined;
    return happened;
  }

  remove(): void {
    this.#root = undefined;
    this.revision = 0;
  }

  #one(edit: Edit): Happened[] {
    const before = json(this.#root);
    this.#apply(edit);
    const after = json(this.#root);
    return text(before) === text(after) ? [] : [{ ...edit, before, after }];
  }

  #apply({ path, value }: Edit): void {
    const keys = keysOf(path);
    const last = keys.pop();
    if (last === undefined) {
      const root = read(value ?? {});
      if (root instanceof Map) this.#root = root;
      return;
    }
    let branch = this.#root as Map<string, Node>;
    for (const key of keys) {
      const child = branch.get(key);
      const next = child instanceof Map ? child : new Map<string, Node>();
      if (child !== next && value === undefined) return;
      branch = branch.set(key, next).get(key) as Map<string, Node>;
    }
    if (value === undefined) branch.delete(last);
    else branch.set(last, read(value));
  }

  #remember(root: Map<string, Node>): void {
    this.#newest += 1 + below(3);
    this.revision = this.#newest;
    this.#past.set(this.revision, json(root));
  }
}

interface Watch {
  level: string;
  path: string;
}

/** The node of the page: its sequence numbers, its watches, and the trees that others write too. */
export class Server {
  readonly trees: Record<string, Tree> = { session: new Tree(), page: new Tree() };
  #socket: FakeSocket;
  #watches: Watch[] = [];
  #frames: object[] = [];
  #delivered = 0;
  #received = 0;
  #read = 0;

  constructor(socket: FakeSocket) {
    this.#socket = socket;
    socket.register("new");
  }

  /** Processes some of the frames that have arrived. */
  process(count: number): void {
    const arrived = this.#socket.frames.filter(({ type }) => !["hello", "ack", "close"].includes(type));
    for (const frame of arrived.slice(this.#read, this.#read + count)) {
      this.#read += 1;
      this.#received += 1;
      const { id, type, value } = frame;
      const watch = { level: String(frame["level"]), path: String(frame["path"]) };
      if (type === "unwatch" || type === "watch") this.#unwatch(watch);
      if (type === "set_session_data") this.write("session", [{ path: watch.path, value, from: "p|p02" }]);
      this.#frames.push({ type: "result", id, value: { revision: this.trees["session"]?.revision } });
      if (type === "watch") this.#watch(watch);
    }
  }

  /** Writes a tree and sends the change to its watches. */
  write(level: string, edits: Edit[]): void {
    const tree = this.trees[level] as Tree;
    const base = tree.revision;
    const happened = tree.edit(edits);
    const { revision } = tree;
    if (revision === base) return;
    for (const watch of this.#watches.filter((watch) => watch.level === level)) {
      const changes = happened.flatMap((edit) => seen(watch.path, edit));
      const moved = text(tree.at(watch.path, base)) !== text(tree.at(watch.path));
      const concerns = changes.length > 0 || watch.path === "";
      if (moved && below(4) === 0) this.#frames.push(this.#snapshot(watch));
      else if (concerns) this.#frames.push({ type: "data", ...place(watch), base, revision, changes });
    }
  }

  remove(level: string): void {
    if (this.trees[level]?.revision === 0) return;
    this.trees[level]?.remove();
    const watches = this.#watches.filter((watch) => watch.level === level);
    this.#frames.push(...watches.map((watch) => ({ type: "data", ...place(watch), removed: true })));
  }

  deliver(count: number): void {
    for (const frame of this.#frames.slice(this.#delivered, this.#delivered + count)) {
      this.#socket.push({ seq: ++this.#delivered, ...frame });
    }
  }

  /** Opens another socket for the page, or for the next page of the same document. */
  resume(socket: FakeSocket, recovered: "recovered" | "reset" | "new"): void {
    this.#socket = socket;
    this.#read = 0;
    socket.open();
    const [hello] = socket.of("hello");
    if (recovered === "recovered") {
      this.#delivered = (hello?.["resume"] as { seq: number }).seq;
      const named = (hello?.["watch"] as Watch[]).map(text);
      this.#watches = this.#watches.filter((watch) => named.includes(text(watch)));
    } else {
      [this.#frames, this.#watches, this.#delivered, this.#received] = [[], [], 0, 0];
      for (const watch of (hello?.["watch"] ?? []) as Watch[]) this.#watch(watch);
    }
    socket.register(recovered, { seq: this.#delivered, received: this.#received });
  }

  #watch(watch: Watch): void {
    this.#watches.push(watch);
    this.#frames.push(this.#snapshot(watch));
  }

  #unwatch({ level, path }: Watch): void {
    this.#watches = this.#watches.filter((watch) => watch.level !== level || watch.path !== path);
  }

  #snapshot(watch: Watch): object {
    const { revision } = this.trees[watch.level] as Tree;
    const snapshot = this.trees[watch.level]?.at(watch.path);
    return { type: "data", ...place(watch), revision, ...(snapshot === undefined ? { missing: true } : { snapshot }) };
  }
}

function place({ level, path }: Watch): object {
  return path === "" ? { level } : { level, path };
}

/**
 * Returns the effect of a change at a watched path: the change itself at or below the path, or a change of its value
 * from above.
 */
function seen(watched: string, { path, value, from, before, after }: Happened): object[] {
  const [above, keys] = [keysOf(watched), keysOf(path)];
  const inside = above.every((key, n) => keys[n] === key);
  const over = keys.every((key, n) => above[n] === key);
  if (!inside && !over) return [];
  const now = inside ? value : part(after, watched);
  if (!inside && text(now) === text(part(before, watched))) return [];
  const what = now === undefined ? { delete: true } : { value: now };
  return [{ path: inside ? path : watched, ...what, ...(from && { from }) }];
}
