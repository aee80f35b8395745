export { PagewireError } from "../error.js";
export { worker, type AppOptions } from "./app.js";
export { Cancelled, Conflict, Fail, Retry, type CancelReason } from "./errors.js";
export type * from "./types.js";
