import type { ApiMap, Args, ObjectHandler, ObjectMethod, UntypedApi, UntypedName } from "./api.js";
import { PagewireError } from "./error.js";
import type { CallOptions, ResidentClass } from "./types.js";

/** The object that a resident page has at its server. Its calls go to the pool of its class. */
export class PageObject<Api extends ApiMap<Api> = UntypedApi> {
  /** Its class, as `hello` names it; `undefined` for a page without an object. */
  readonly resident: ResidentClass | undefined;
  readonly #call: (method: string, params: unknown, options?: CallOptions) => Promise<unknown>;

  constructor(
    resident: string | ResidentClass | undefined,
    call: (method: string, params: unknown, options?: CallOptions) => Promise<unknown>,
  ) {
    this.resident = typeof resident === "string" ? { class: resident } : resident;
    this.#call = call;
  }

  /** Calls a method of the object: `call("add")` of a `Counter` is `Counter.add` of the page. */
  call<M extends ObjectMethod<Api>>(
    method: M,
    ...rest: Args<ObjectHandler<Api, M>, CallOptions>
  ): Promise<ObjectHandler<Api, M>["result"]>;
  call<Result = unknown>(method: UntypedName<Api>, params?: unknown, options?: CallOptions): Promise<Result>;
  call(method: string, params?: unknown, options?: CallOptions): Promise<unknown> {
    if (!this.resident) {
      const reason = "the page has no object: its option `resident` is missing";
      return Promise.reject(new PagewireError("malformed", reason));
    }
    const { class: name, pool } = this.resident;
    return this.#call(`${name}.${method}`, params, { ...(pool !== undefined && { pool }), ...options });
  }
}
