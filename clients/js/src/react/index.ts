export { PageProvider, useJob, usePage, useTree } from "./hooks.js";
export type { AnyPage, JobStatus, PageStatus, TreeStatus } from "./types.js";
