// Builds dist/: one module for browsers and its types. `--check` only reports whether the checked-in files are up to date.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

/** The files that src/index.ts exports, in reading order, with their dependencies. */
const DECLARATIONS = ["error", "types", "state", "subscription", "path", "emitter", "pagewire"];
const BANNER = "// Pagewire's browser client, built from clients/js/src: do not edit. Apache-2.0\n";

async function bundle() {
  const { outputFiles } = await build({
    entryPoints: ["src/index.ts"],
    bundle: true,
    format: "esm",
    target: "es2022",
    legalComments: "none",
    banner: { js: BANNER.trimEnd() },
    write: false,
  });
  return outputFiles[0].text;
}

/** Returns the types as a single file: the declarations of all files without the imports between them. */
function declarations() {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."], { stdio: "inherit" });
  const texts = DECLARATIONS.map((name) => readFileSync(`build/types/${name}.d.ts`, "utf8"));
  const joined = texts.map((text) => text.replace(/^import [^;]*;\n/gm, "")).join("");
  // the emitter is a base class, not an export of the bundle; `export {}` makes `export` count
  return BANNER + joined.replace("export declare class Emitter", "declare class Emitter") + "export {};\n";
}

const fresh = { "dist/pagewire.js": await bundle(), "dist/pagewire.d.ts": declarations() };

if (process.argv.includes("--check")) {
  const stale = Object.keys(fresh).filter((path) => readFileSync(path, "utf8") !== fresh[path]);
  if (stale.length > 0) {
    console.error(`not built from these sources: ${stale.join(", ")} (npm run build)`);
    process.exit(1);
  }
} else {
  for (const [path, text] of Object.entries(fresh)) writeFileSync(path, text);
}
