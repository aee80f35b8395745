import type {
  ApiMap,
  Edit,
  Job,
  JobEnd,
  JobOptions,
  Level,
  Pagewire,
  PagewireError,
  Registered,
  State,
  UntypedApi,
  WriteOptions,
} from "pagewire";

/** A page of any map of handlers. */
export type AnyPage = Pagewire<any>;

/** A page as it is now. */
export interface PageStatus<Api extends ApiMap<Api> = UntypedApi> {
  readonly page: Pagewire<Api>;
  readonly state: State;
  /** The identity and the node of the page; absent before the first registration. */
  readonly registered: Registered | undefined;
  /** The user of the page; absent if it has none. */
  readonly user: string | undefined;
  /** While the state is `waiting`: when the page tries again, as `Date.now()`. */
  readonly retryAt: number | undefined;
  /** How often messages were lost. An effect that depends on it loads everything anew. */
  readonly resets: number;
}

/** The value at a path of a tree, and its writes. */
export interface TreeStatus<Value = unknown> {
  readonly level: Level;
  readonly path: string;
  /** The last value from the server; absent if there is none, and before `ready`. */
  readonly value: Value | undefined;
  /** The revision of the tree at the last update. */
  readonly revision: number;
  /** Whether the server has sent the value. */
  readonly ready: boolean;
  /** Why the server does not let this page watch the path. */
  readonly error: PagewireError | undefined;
  /** Writes a value at a path below. It is shown when the server sends the change. */
  set(path: string, value: unknown, options?: WriteOptions): Promise<number>;
  /** Deletes the value at a path below. */
  delete(path: string, options?: WriteOptions): Promise<number>;
  /** Makes all of these changes or none. */
  patch(edits: readonly Edit[], options?: WriteOptions): Promise<number>;
}

/** The last job that a component has submitted. */
export interface JobStatus<Result = unknown, Data = unknown> {
  /** `idle` before the first job, `submitted` until it is durable, `running` until it has ended. */
  readonly state: "idle" | "submitted" | "running" | JobEnd;
  /** The id of the job, once it is durable. */
  readonly id: string | undefined;
  /** From 0 to 1. */
  readonly progress: number;
  /** The text of the last progress. */
  readonly message: string | undefined;
  readonly result: Result | undefined;
  /** Why it has failed, or never began. */
  readonly error: PagewireError | undefined;
  /** Submits a job, which is shown instead of the one before. It goes on when the component is gone. */
  submit(data?: Data, options?: JobOptions): Job<Result>;
  /** Cancels the job that is shown. */
  cancel(): void;
}
