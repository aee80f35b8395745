// Paths of state trees. Pure.
//
// `wizard.form.name`; `\.`, `\#` and `\\` are the characters themselves; the empty text is the whole tree. The server
// also takes `#n` for the child at a position, where something is read once or written.

import { PagewireError } from "./error.js";

const MAX_DEPTH = 32;
const MAX_KEY_BYTES = 256;
/** An odd number of backslashes at the end: the last one would make the next dot a part of the key. */
const UNFINISHED = /(?<!\\)(?:\\\\)*\\$/;

/** Any key as one step of a path: `escape("james.wilson")` is `james\.wilson`. */
export function escape(key: string): string {
  return key.replace(/[.\\]|^#/g, "\\$&");
}

/** Paths one below the other: `join("users", escape(name), "age")`. Empty ones are skipped. */
export function join(...paths: string[]): string {
  if (paths.some((path) => UNFINISHED.test(path))) throw malformed(paths.join(", "));
  return paths.filter((path) => path !== "").join(".");
}

/** The keys of a path, from the root: `split("users.james\\.wilson")` is `["users", "james.wilson"]`. */
export function split(path: string): string[] {
  if (path === "") return [];
  const keys = [""];
  for (let place = 0, begin = 0; place < path.length; place++) {
    const letter = path.charAt(place);
    if (letter === ".") {
      begin = place + 1;
      keys.push("");
    } else if (letter === "#" && place === begin) {
      throw malformed(path);
    } else {
      keys.push(keys.pop() + (letter === "\\" ? path.charAt(++place) : letter));
    }
  }
  if (UNFINISHED.test(path) || keys.length > MAX_DEPTH || !keys.every(legal)) throw malformed(path);
  return keys;
}

function legal(key: string): boolean {
  return key !== "" && new TextEncoder().encode(key).length <= MAX_KEY_BYTES;
}

function malformed(path: string): PagewireError {
  return new PagewireError("malformed", `not a path of keys: ${path}`);
}
