import { ask } from "./ask.js";
import type { PagewireError } from "./error.js";
import { escape, split } from "./path.js";
import { Replica, type DataFrame } from "./replica.js";
import { serverError, type Requests } from "./requests.js";
import type { Change, Edit, Level, Reading, View, ViewEvents, WriteOptions } from "./state.js";
import type { Registered } from "./types.js";
import { LiveView } from "./view.js";

/** The part of a `hello` for watches, in characters of JSON: far below any `max_frame`. */
const ROOM = 8_192;

/** A path of a tree, as in `hello`. */
export interface Place {
  level: Level;
  path: string;
}

/** A path that this document watches, independent of sockets. */
interface Watched {
  readonly place: Place;
  readonly replica: Replica;
  readonly views: Set<LiveView<unknown>>;
  /** The server watches it, or will once it has read the frames sent. */
  asked: boolean;
}

/** The state trees of a page's chain: watches, reads and writes them. */
export class Trees {
  readonly #requests: Requests;
  readonly #self: () => string | undefined;
  readonly #watched = new Map<string, Watched>();
  /** Paths with an unwatch request that has no reply yet. */
  readonly #leaving = new Set<string>();
  #live = false;

  constructor(requests: Requests, self: () => string | undefined) {
    this.#requests = requests;
    this.#self = self;
  }

  /**
   * Returns the watched paths for a `hello` that resumes, as many as fit in. The server ends the watches that are not
   * named; they are requested again afterwards.
   */
  places(): Place[] {
    let room = ROOM;
    const named: Place[] = [];
    for (const watched of this.#watched.values()) {
      if ((room -= JSON.stringify(watched.place).length) > 0) named.push(watched.place);
      else watched.asked = false;
    }
    return named;
  }

  watch<Value>(level: Level, path: string): View<Value> {
    const keys = split(path);
    const place = { level, path: keys.map(escape).join(".") };
    const watched = this.#watched.get(name(place)) ?? this.#begin(place, keys);
    const view: LiveView<Value> = new LiveView(level, place.path, {
      patch: (edits, options) => this.patch(level, edits, options),
      set: (at, value, options) => this.set(level, at, value, options),
      close: () => this.#close(watched, view),
    });
    watched.views.add(view);
    if (watched.replica.known) view.show(watched.replica);
    return view;
  }

  async get<Value>(level: Level, path: string): Promise<Reading<Value>> {
    const { value, revision } = (await ask(this.#requests, { type: "get_data", level, path })) as Reading<Value>;
    return { value, revision };
  }

  set(level: Level, path: string, value: unknown, options: WriteOptions = {}): Promise<number> {
    return this.#write({ ...options, type: `set_${level}_data`, path, value });
  }

  patch(level: Level, changes: readonly Edit[], options: WriteOptions = {}): Promise<number> {
    return this.#write({ ...options, type: "patch", level, changes });
  }

  /**
   * Handles a registered socket. A recovered page receives updates of the paths that it watched before, if `hello`
   * named them; after a reset the server starts with the named paths.
   */
  open(recovered: Registered["recovered"], named: readonly Place[]): void {
    this.#live = true;
    for (const watched of this.#watched.values()) {
      if (recovered !== "recovered") watched.asked = named.includes(watched.place);
      if (!watched.asked) this.#ask(watched);
    }
  }

  /** Handles a lost socket. */
  pause(): void {
    this.#live = false;
  }

  take(frame: DataFrame): void {
    const place = { level: frame.level, path: frame.path ?? "" };
    const watched = this.#watched.get(name(place));
    // in transit when it was closed, here or in the document before a reload
    if (!watched) return this.#leave(place);
    const { replica, views } = watched;
    const changes = replica.take(frame);
    if (!changes) return;
    const news = changes.length > 0 ? this.#news(changes) : undefined;
    for (const view of [...views]) {
      // closed by the listener of another view
      if (!views.has(view)) continue;
      view.show(replica, news);
      if (frame.removed) view.removed();
    }
  }

  async #write(frame: object): Promise<number> {
    return ((await ask(this.#requests, frame)) as Reading).revision;
  }

  #begin(place: Place, keys: string[]): Watched {
    const watched = { place, replica: new Replica(keys), views: new Set<LiveView<unknown>>(), asked: false };
    this.#watched.set(name(place), watched);
    if (this.#live) this.#ask(watched);
    return watched;
  }

  #ask(watched: Watched): void {
    watched.asked = true;
    this.#requests.add({ type: "watch", ...watched.place }, {
      take: (answer) => {
        if (answer.type === "error") this.#refuse(watched, serverError(answer));
        return true;
      },
      fail: () => (watched.asked = false),
    });
  }

  #refuse(watched: Watched, error: PagewireError): void {
    this.#forget(watched);
    watched.asked = false;
    for (const view of watched.views) view.refuse(error);
  }

  #close(watched: Watched, view: LiveView<unknown>): void {
    if (!watched.views.delete(view) || watched.views.size > 0) return;
    this.#forget(watched);
    if (watched.asked) this.#leave(watched.place);
  }

  /** Forgets a path, unless another watch of the same path has begun. */
  #forget(watched: Watched): void {
    const key = name(watched.place);
    if (this.#watched.get(key) === watched) this.#watched.delete(key);
  }

  /** Ends a watch at the server, with one request at a time. Without a socket it is repeated at the next update. */
  #leave(place: { level: string; path: string }): void {
    const key = name(place);
    if (!this.#live || this.#leaving.has(key)) return;
    this.#leaving.add(key);
    const over = (): boolean => this.#leaving.delete(key);
    this.#requests.add({ type: "unwatch", ...place }, { take: () => (over(), true), fail: over });
  }

  #news(changes: readonly Change[]): ViewEvents["change"] {
    const self = base(this.#self());
    const own = changes.every(({ from }) => from !== undefined && base(from) === self);
    return { changes, from: changes.at(-1)?.from, own };
  }
}

function name({ level, path }: { level: string; path: string }): string {
  return `${level}:${path}`;
}

/** Returns the constant part of a page id: a page migrates between nodes, but its first 22 characters stay. */
function base(page: string | undefined): string | undefined {
  return page?.split("|")[0];
}
