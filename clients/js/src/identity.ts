import type { Place } from "./trees.js";
import type { IdentityStorage, Registered } from "./types.js";

const CONNECTION = "pagewire.connection";
const SESSION = "pagewire.session";
const PAGE = "pagewire.page.";
/** The newest successors are kept, for the tabs that have not come back yet. */
const MAX_SUCCESSORS = 16;

/** An id and the token that proves that it was ours. */
interface Proof {
  id: string;
  token: string;
}

/** The connection, and the sessions that took the place of those which the server no longer knew, by their old ids. */
interface ConnectionProof extends Proof {
  successors?: Record<string, Proof>;
}

interface PageProof extends Proof {
  seq: number;
  /** Its unfinished jobs, by the id of the request that each answers. */
  jobs: Record<string, string>;
}

/** The members of the first frame. */
export interface Hello {
  connection_id?: string;
  session_id?: string;
  page_id?: string;
  resume?: { token: string; seq: number };
  token?: string;
  watch?: Place[];
  pending?: string[];
}

/**
 * What this page remembers of itself. The connection is the browser's (localStorage); session and page are the
 * tab's (sessionStorage), so a reload resumes the same page. The iframes of a tab share its session and have a
 * page each, told apart by their slot.
 */
export class Identity {
  #local: IdentityStorage | null;
  #session: IdentityStorage | null;
  #slot: string;
  #proofs: { connection?: ConnectionProof; session?: Proof; page?: PageProof };
  /** The session that the server refused, until there is another one. */
  #lost: string | undefined;

  constructor(local: IdentityStorage | null, session: IdentityStorage | null, slot: string) {
    this.#local = local;
    this.#session = session;
    this.#slot = PAGE + slot;
    this.#proofs = {
      ...read("connection", local, CONNECTION),
      ...read("session", session, SESSION),
      ...read("page", session, this.#slot),
    };
  }

  /** Whether the next `hello` names nothing: it opens a connection. */
  get blank(): boolean {
    const { connection, session, page } = this.#proofs;
    return !connection && !session && !page;
  }

  /** The page that can be resumed. */
  get page(): PageProof | undefined {
    return this.#proofs.page;
  }

  /** The unfinished jobs of that page, by the id of the request that each answers. */
  get jobs(): Readonly<Record<string, string>> {
    return this.#proofs.page?.jobs ?? {};
  }

  /**
   * The ids and the proof for `hello`: the page to resume with what it watches and waits for, else the session or
   * connection to join.
   */
  hello(seq: number, watch: Place[], pending: string[]): Hello {
    const { connection, session, page } = this.#proofs;
    const proof = page ?? session ?? connection;
    return {
      ...(connection && { connection_id: connection.id }),
      ...(session && { session_id: session.id }),
      ...(page && { page_id: page.id }),
      ...(proof && { resume: { token: proof.token, seq: page ? seq : 0 } }),
      // also when it is nothing: what a document before this one watched is over
      ...(page && { watch }),
      ...(page && pending.length > 0 && { pending }),
    };
  }

  /** Remembers what the server has said. */
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

  /** Remembers how far this page has seen. */
  seen(seq: number): void {
    if (!this.#proofs.page) return;
    this.#proofs.page.seq = seq;
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** A job is durable: the page is told its end, also after a reload. */
  jobStands(id: string, job: string): void {
    if (!this.#proofs.page) return;
    this.#proofs.page.jobs = { ...this.jobs, [id]: job };
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** The page has been told. */
  jobEnded(id: string): void {
    const { [id]: ended, ...jobs } = this.jobs;
    if (!this.#proofs.page || ended === undefined) return;
    this.#proofs.page.jobs = jobs;
    write(this.#session, this.#slot, this.#proofs.page);
  }

  /** Whether another document of this tab has used the page since; what it saw, this one has not. */
  overtaken(): boolean {
    const stored = (read("page", this.#session, this.#slot) as { page?: PageProof }).page;
    return stored !== undefined && stored.token !== this.#proofs.page?.token;
  }

  /** The next `hello` opens a new page in the same session. */
  forgetPage(): void {
    delete this.#proofs.page;
    write(this.#session, this.#slot, undefined);
  }

  /** The next `hello` opens a new page and a new session in the same connection. */
  forgetSession(): void {
    this.forgetPage();
    delete this.#proofs.session;
    write(this.#session, SESSION, undefined);
  }

  /**
   * The server refuses what is remembered. It is forgotten, here and where it is stored; what another document has
   * learned since is not ours to take away.
   */
  forgetRefused(): void {
    const { connection, session } = this.#proofs;
    this.forgetPage();
    this.#lost = session?.id ?? this.#lost;
    this.#proofs = {};
    if (stored("session", this.#session, SESSION)?.token === session?.token) write(this.#session, SESSION, undefined);
    if (this.#connection()?.token === connection?.token) write(this.#local, CONNECTION, undefined);
  }

  /** Joins what other documents of this browser have learned since this one forgot everything. */
  recall(): void {
    const connection = this.#connection();
    const successor = this.#lost === undefined ? undefined : connection?.successors?.[this.#lost];
    const session = stored("session", this.#session, SESSION) ?? (isProof(successor) ? successor : undefined);
    this.#proofs = { ...(connection && { connection }), ...(session && { session }) };
  }

  /** What the stored connection says of lost sessions, and what became of ours. */
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

/** Storage may be full, forbidden or hold anything: then a page lives in memory only. */
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
    // see read
  }
}
