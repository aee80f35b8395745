// Paths of state trees. Pure.
//
// `wizard.form.name`; `\.`, `\#` and `\\` are the characters themselves; the empty text is the whole tree. In single
// reads and in writes the server also accepts `#n` for the child at a position.

import { PagewireError } from "./error.js";

const MAX_DEPTH = 32;
const MAX_KEY_BYTES = 256;
/** An odd number of backslashes at the end: the last one would escape the next dot. */
const UNFINISHED = /(?<!\\)(?:\\\\)*\\$/;

/** Escapes any key as one step of a path: `escape("james.wilson")` is `james\.wilson`. */
export function escape(key: string): string {
  return key.replace(/[.\\]|^#/g, "\\$&");
}

/** Joins paths, each below the previous one: `join("users", escape(name), "age")`. Empty paths are skipped. */
export function join(...paths: string[]): string {
  if (paths.some((path) => UNFINISHED.test(path))) throw malformed(paths.join(", "));
  return paths.filter((path) => path !== "").join(".");
}

/** Splits a path into its keys, from the root: `split("users.james\\.wilson")` is `["users", "james.wilson"]`. */
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
