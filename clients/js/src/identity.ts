import type { Place } from "./trees.js";
import type { IdentityStorage, OlderIds, Registered, ResidentClass } from "./types.js";

const CONNECTION = "pagewire.connection";
const SESSION = "pagewire.session";
const PAGE = "pagewire.page.";
/** The most successors that are stored; the newest are kept, for tabs that have not returned yet. */
const MAX_SUCCESSORS = 16;

/** An id and the token that proves its ownership. */
interface Proof {
  id: string;
  token: string;
}

/** The connection, and the sessions that replaced those that the server no longer knew, by their old ids. */
interface ConnectionProof extends Proof {
  successors?: Record<string, Proof>;
}

interface PageProof extends Proof {
  seq: number;
  /** Its unfinished jobs, by the id of the request that submitted each. */
  jobs: Record<string, string>;
}

/** The members of the `hello` frame. */
export interface Hello {
  connection_id?: string;
  session_id?: string;
  page_id?: string;
  resume?: { token: string; seq: number };
  token?: string;
  watch?: Place[];
  pending?: string[];
  /** What this client knows beside the first version of the protocol. */
  features?: string[];
  /** The class of its object, if it is a resident page. */
  resident?: ResidentClass;
  /** The page is to be opened at this node, whatever its lane is. */
  stay?: boolean;
}

/**
 * The stored identity of this page. The connection belongs to the browser (localStorage); session and page belong to
 * the tab (sessionStorage), so a reload resumes the same page. The iframes of a tab share its session and have their
 * own pages, told apart by their slots.
 */
export class Identity {
  #local: IdentityStorage | null;
  #session: IdentityStorage | null;
  #slot: string;
  #proofs: { connection?: ConnectionProof; session?: Proof; page?: PageProof };
  /** The ids of an older deployment that are named for what has no id yet. */
  #older: OlderIds;
  /** The session that the server rejected, until there is another one. */
  #lost: string | undefined;

  constructor(local: IdentityStorage | null, session: IdentityStorage | null, slot: string, older: OlderIds = {}) {
    this.#older = older;
    this.#local = local;
    this.#session = session;
    this.#slot = PAGE + slot;
    this.#proofs = {
      ...read("connection", local, CONNECTION),
      ...read("session", session, SESSION),
      ...read("page", session, this.#slot),
    };
  }

  /** Whether the next `hello` has no ids, so that it opens a connection. */
  get blank(): boolean {
    const { connection, session, page } = this.#proofs;
    return !connection && !session && !page;
  }

  /** The page that can be resumed. */
  get page(): PageProof | undefined {
    return this.#proofs.page;
  }

  /** The unfinished jobs of that page, by the id of the request that submitted each. */
  get jobs(): Readonly<Record<string, string>> {
    return this.#proofs.page?.jobs ?? {};
  }

  /**
   * Returns the ids and the proof for `hello`: the page to resume with its watched paths and pending ids, otherwise the
   * session or connection to join.
   */
  hello(seq: number, watch: Place[], pending: string[]): Hello {
    const { connection, session, page } = this.#proofs;
    const proof = page ?? session ?? connection;
    return {
      ...this.#older,
      ...(connection && { connection_id: connection.id }),
      ...(session && { session_id: session.id }),
      ...(page && { page_id: page.id }),
      ...(proof && { resume: { token: proof.token, seq: page ? seq : 0 } }),
      // sent even if it is empty: it ends the watches of the document before this one
      ...(page && { watch }),
      ...(page && pending.length > 0 && { pending }),
    };
  }

  /** Stores the identity from a `registered` frame. */
  learn({ connection_id, session_id, page_id, token }: Registered, seq: number): void {
    const successors = this.#successors({ id: session_id, token }, connection_id);
    this.#proofs = {
      connection: { id: connection_id, token, ...(successors && { successors }) },
      session: { id: session_id, token },
      page: { id: page_id, token, seq, jobs: this.jobs },
    };
    write(this.#local, CONNECTION, this.#proofs.connection);
    write(this.#session, SESSION, this.#proofs.session);
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** Stores the last `seq` that this page has received. */
  seen(seq: number): void {
    if (!this.#proofs.page) return;
    this.#proofs.page.seq = seq;
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** Stores a durable job: its end will arrive, also after a reload. */
  jobStands(id: string, job: string): void {
    if (!this.#proofs.page) return;
    this.#proofs.page.jobs = { ...this.jobs, [id]: job };
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** Removes a job: its end has arrived. */
  jobEnded(id: string): void {
    const { [id]: ended, ...jobs } = this.jobs;
    if (!this.#proofs.page || ended === undefined) return;
    this.#proofs.page.jobs = jobs;
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /**
   * Returns whether another document of this tab has used the page since. This document has not received its frames.
   */
  overtaken(): boolean {
    const stored = (read("page", this.#session, this.#slot) as { page?: PageProof }).page;
    return stored !== undefined && stored.token !== this.#proofs.page?.token;
  }

  /** Forgets the page: the next `hello` opens a new page in the same session. */
  forgetPage(): void {
    delete this.#proofs.page;
    write(this.#session, this.#slot, undefined);
  }

  /** Forgets the session: the next `hello` opens a new page and a new session in the same connection. */
  forgetSession(): void {
    this.forgetPage();
    delete this.#proofs.session;
    write(this.#session, SESSION, undefined);
  }

  /**
   * Forgets the identity that the server has rejected, in memory and in storage. Entries that another document has
   * stored since are kept.
   */
  forgetRefused(): void {
    const { connection, session } = this.#proofs;
    this.forgetPage();
    this.#lost = session?.id ?? this.#lost;
    this.#proofs = {};
    if (stored("session", this.#session, SESSION)?.token === session?.token) write(this.#session, SESSION, undefined);
    if (this.#connection()?.token === connection?.token) write(this.#local, CONNECTION, undefined);
  }

  /** Joins the connection that other documents of this browser have stored since this one forgot everything. */
  recall(): void {
    const connection = this.#connection();
    const successor = this.#lost === undefined ? undefined : connection?.successors?.[this.#lost];
    const session = stored("session", this.#session, SESSION) ?? (isProof(successor) ? successor : undefined);
    this.#proofs = { ...(connection && { connection }), ...(session && { session }) };
  }

  /** Returns the successors of lost sessions in the stored connection, with the successor of this session. */
  #successors(session: Proof, connection_id: string): Record<string, Proof> | undefined {
    const standing = this.#connection();
    const known = (standing?.id === connection_id && standing.successors) || undefined;
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost === undefined || lost === session.id) return known;
    const { [lost]: _, ...others } = known ?? {};
    return Object.fromEntries([...Object.entries(others), [lost, session]].slice(-MAX_SUCCESSORS));
  }

  #connection(): ConnectionProof | undefined {
    return stored("connection", this.#local, CONNECTION);
  }
}

function stored(name: "connection" | "session", storage: IdentityStorage | null, key: string): Proof | undefined {
  return (read(name, storage, key) as Partial<Record<typeof name, Proof>>)[name];
}

function isProof(value: unknown): value is Proof & Partial<PageProof> {
  const { id, token } = (value ?? {}) as Partial<Proof>;
  return typeof id === "string" && typeof token === "string";
}

/** Reads an entry. Storage may be full, forbidden or hold anything; then a page exists in memory only. */
function read<Name extends string>(name: Name, storage: IdentityStorage | null, key: string): object {
  try {
    const proof: unknown = JSON.parse(storage?.getItem(key) ?? "null");
    if (!isProof(proof)) return {};
    const jobs = typeof proof.jobs === "object" ? (proof.jobs ?? {}) : {};
    return { [name]: { ...proof, seq: Number(proof.seq) || 0, jobs } };
  } catch {
    return {};
  }
}

function write(storage: IdentityStorage | null, key: string, value: object | undefined): void {
  try {
    if (value) storage?.setItem(key, JSON.stringify(value));
    else storage?.removeItem(key);
  } catch {
    // see `read`
  }
}
