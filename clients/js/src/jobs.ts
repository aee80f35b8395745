import type { Identity } from "./identity.js";
import { news, SubmittedJob } from "./job.js";
import type { Requests } from "./requests.js";
import type { Job, JobNews, JobOptions, ServerFrame } from "./types.js";

/** The most ids in one `hello` for which the server replies. Older ones are sent once some of these have ended. */
const MAX_PENDING = 256;

/** The jobs of a page: those that this document submitted, and those that it only receives events of. */
export class Jobs {
  readonly #requests: Requests;
  readonly #identity: Identity;
  /** Jobs that have ended for this document. Later frames about them are late or repeated, and are ignored. */
  readonly #over = new Set<string>();

  constructor(requests: Requests, identity: Identity) {
    this.#requests = requests;
    this.#identity = identity;
  }

  /** The ids under which this page waits for an end, including those from before a reload; the newest first. */
  get pending(): string[] {
    const ids = new Set([...Object.keys(this.#identity.jobs), ...this.#requests.lasting]);
    return [...ids].reverse().slice(0, MAX_PENDING);
  }

  submit<Result>(kind: string, data: unknown, options: JobOptions): Job<Result> {
    let id = "";
    const job = new SubmittedJob<Result>({
      sent: () => this.#requests.sent(id),
      giveUp: (error) => this.#requests.giveUp(id, error),
      cancel: () => this.#requests.cancel(id),
    });
    try {
      id = this.#requests.begin({ ...options, type: "job", kind, data }, job);
    } catch (error) {
      job.fail(error as Error);
    }
    return job;
  }

  /** Takes a frame with an id. Returns the event if no caller in this document waits for that job. */
  take(frame: ServerFrame): JobNews | undefined {
    const id = String(frame["id"]);
    const known = this.#identity.jobs[id];
    const job = typeof frame["job"] === "string" ? frame["job"] : known;
    const ours = this.#requests.answer(frame);
    if (job === undefined || this.#over.has(id)) return undefined;
    if (frame.type === "result" || frame.type === "error") {
      this.#over.add(id);
      this.#identity.jobEnded(id);
    } else if (known === undefined) {
      this.#identity.jobStands(id, job);
    }
    return ours ? undefined : news(job, frame);
  }
}
