import { Deferred } from "./deferred.js";
import { Emitter } from "./emitter.js";
import { PagewireError, type JobEnd } from "./error.js";
import { serverError, type Waiter } from "./requests.js";
import type { Job, JobEvents, JobNews, ServerFrame } from "./types.js";

/** The operations of a job on its own request. */
export interface JobRequest {
  /** Returns whether the request was sent, so that only the server can stop it. */
  sent(): boolean;
  /** Withdraws the request before it is sent. */
  giveUp(error: PagewireError): void;
  /** Asks the server to cancel it. */
  cancel(): void;
}

/** A job from its submission to its end, over lost sockets, migrations and resets. */
export class SubmittedJob<Result> extends Emitter<JobEvents> implements Job<Result>, Waiter {
  readonly #accepted = new Deferred<string>();
  readonly #result = new Deferred<Result>();
  readonly #request: JobRequest;
  /** The server has accepted it. */
  #stands = false;
  /** A reset happened: the reply to the submission may be lost, and the server is queried for the job. */
  #asked = false;
  #over = false;
  #cancelling = false;

  constructor(request: JobRequest) {
    super();
    this.#request = request;
  }

  get accepted(): Promise<string> {
    return this.#accepted.promise;
  }

  get result(): Promise<Result> {
    return this.#result.promise;
  }

  cancel(): void {
    if (this.#over || this.#cancelling) return;
    if (!this.#request.sent()) return this.#request.giveUp(ended("cancelled"));
    // while the submission is in transit there is nothing to cancel yet
    this.#cancelling = true;
    if (this.#stands) this.#request.cancel();
  }

  take(frame: ServerFrame): boolean {
    switch (frame.type) {
      case "accepted":
        this.#stands = true;
        this.#accepted.resolve(String(frame["job"]));
        if (this.#cancelling) this.#request.cancel();
        return false;
      case "progress":
        this.emit("progress", progress(frame));
        return false;
      case "result":
        return this.#end(frame);
      default:
        // queried too early: the reply to the submission is still in transit
        if (frame["code"] === "uncertain" && !this.#stands && !this.#asked) return false;
        this.fail(serverError(frame));
        return true;
    }
  }

  fail(error: Error): void {
    this.#over = true;
    this.#accepted.reject(error);
    this.#result.reject(error);
  }

  reset(): void {
    this.#asked = true;
  }

  #end(frame: ServerFrame): true {
    this.#over = true;
    this.#accepted.resolve(String(frame["job"]));
    const error = failure(frame);
    if (error) this.#result.reject(error);
    else this.#result.resolve(frame["value"] as Result);
    return true;
  }
}

/** Converts a frame about a job that this document did not submit into an event. */
export function news(job: string, frame: ServerFrame): JobNews {
  switch (frame.type) {
    case "progress":
      return { job, ...progress(frame) };
    case "result": {
      const error = failure(frame);
      const state = frame["state"] as JobEnd;
      return error ? { job, state, error } : { job, state, value: frame["value"] };
    }
    case "error":
      return { job, error: serverError(frame) };
    default:
      return { job };
  }
}

function progress(frame: ServerFrame): JobEvents["progress"] {
  const message = frame["message"];
  return { progress: Number(frame["progress"]), ...(typeof message === "string" && { message }) };
}

/** Returns the reason why a finished job has no value. */
function failure(frame: ServerFrame): PagewireError | undefined {
  const state = frame["state"] as JobEnd;
  return state === "succeeded" ? undefined : ended(state, frame["error"] as Partial<PagewireError> | undefined);
}

function ended(state: JobEnd, said: Partial<PagewireError> = {}): PagewireError {
  const { code = state, message = `the job was ${state}`, retryable = false } = said;
  return new PagewireError(code, message, retryable, state);
}
