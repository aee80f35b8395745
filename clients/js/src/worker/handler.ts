import { accept, verify } from "./schema.js";
import type { Context, HandlerFunction, HandlerOptions } from "./types.js";

const MAX_NAME = 200;
const MAX_RETRIES = 100;
const OPTIONS = new Set(["mode", "retries", "timeoutMs", "serial", "schema", "returns", "doc"]);

/** A registered handler. */
export class Handler {
  readonly name: string;
  readonly #options: HandlerOptions;
  readonly #run: HandlerFunction<any, unknown>;

  /** Throws a `TypeError` or `RangeError` that names the handler if its name or an option is not possible. */
  constructor(name: string, options: HandlerOptions, run: HandlerFunction<any, unknown>) {
    const bytes = typeof name === "string" ? Buffer.byteLength(name) : 0;
    if (bytes < 1 || bytes > MAX_NAME) throw new RangeError(`a handler's name has 1 to ${MAX_NAME} bytes`);
    if (typeof run !== "function") throw new TypeError(`the handler \`${name}\` is no function`);
    check(name, options);
    this.name = name;
    this.#options = options;
    this.#run = run;
  }

  /** Runs it. Throws `Fail` with the code `malformed` if the schema does not accept the parameters. */
  async run(ctx: Context, params: unknown): Promise<unknown> {
    const { schema } = this.#options;
    return this.#run(ctx, schema ? accept(schema, params) : params);
  }

  /** Returns the method of `ready`. */
  describe(): Record<string, unknown> {
    const { mode, serial, timeoutMs, retries, schema, returns, doc } = this.#options;
    return {
      name: this.name,
      ...(mode && { mode }),
      ...(serial && { serial }),
      ...(timeoutMs !== undefined && { timeout_ms: Math.max(1, Math.round(timeoutMs)) }),
      ...(retries !== undefined && { retries }),
      ...(schema && { schema }),
      ...(returns && { returns }),
      ...(doc && { doc }),
    };
  }
}

function check(name: string, options: HandlerOptions): void {
  const { mode, serial, timeoutMs, retries, schema, returns } = options;
  const unknown = Object.keys(options).find((option) => !OPTIONS.has(option));
  if (unknown) throw new TypeError(`handler \`${name}\`: there is no option \`${unknown}\``);
  const wrong = (what: string): RangeError => new RangeError(`handler \`${name}\`: ${what}`);
  if (mode !== undefined && mode !== "any" && mode !== "assigned") throw wrong("mode is any or assigned");
  if (serial !== undefined && serial !== "user" && serial !== "page") throw wrong("serial is user or page");
  if (timeoutMs !== undefined && !(timeoutMs > 0 && Number.isFinite(timeoutMs))) throw wrong("timeoutMs is above 0");
  const whole = retries === undefined || (Number.isInteger(retries) && retries >= 0 && retries <= MAX_RETRIES);
  if (!whole) throw wrong(`retries is a number from 0 to ${MAX_RETRIES}`);
  try {
    if (schema) verify(schema);
  } catch (error) {
    throw new TypeError(`handler \`${name}\`: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (returns !== undefined && (typeof returns !== "object" || returns === null)) throw wrong("returns is a schema");
}
