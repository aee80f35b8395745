export type * from "./api.js";
export { PagewireError, type JobEnd } from "./error.js";
export { Pagewire } from "./pagewire.js";
export { escape, join, split } from "./path.js";
export type { PageObject } from "./resident.js";
export type * from "./state.js";
export type * from "./subscription.js";
export type * from "./types.js";
