export { PagewireError } from "./error.js";
export { Pagewire } from "./pagewire.js";
export type * from "./types.js";
