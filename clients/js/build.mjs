// Builds dist/: for each entry one module and its types. `--check` only reports whether the checked-in files are up to date.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

/**
 * The entries. `declarations` are the files with what the entry exports, in reading order, with their dependencies;
 * `hidden` are declarations in them that are no exports of the module.
 */
const ENTRIES = [
  {
    name: "pagewire",
    title: "Pagewire's browser client",
    source: "src/index.ts",
    platform: "browser",
    project: "tsconfig.json",
    declarations: ["error", "types", "state", "subscription", "path", "emitter", "pagewire"],
    hidden: ["class Emitter"],
  },
  {
    name: "worker",
    title: "Pagewire's handlers in Node",
    source: "src/worker/index.ts",
    platform: "node",
    project: "tsconfig.worker.json",
    declarations: ["error", "worker/errors", "worker/types", "worker/app"],
    hidden: [],
    // for `await using`
    libraries: ["esnext.disposable"],
  },
];

const banner = ({ title }) => `// ${title}, built from clients/js/src: do not edit. Apache-2.0\n`;

async function bundle(entry) {
  const { outputFiles } = await build({
    entryPoints: [entry.source],
    bundle: true,
    format: "esm",
    platform: entry.platform,
    target: "es2022",
    packages: "external",
    legalComments: "none",
    banner: { js: banner(entry).trimEnd() },
    write: false,
  });
  return outputFiles[0].text;
}

/** Returns the types as a single file: the declarations of all files without the imports between them. */
function declarations(entry) {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", entry.project], { stdio: "inherit" });
  const texts = entry.declarations.map((name) => readFileSync(`build/types/${name}.d.ts`, "utf8"));
  const joined = texts.map((text) => text.replace(/^(import [^;]*from "\.[^;]*|export \{\});\n/gm, "")).join("");
  const shown = entry.hidden.reduce((text, name) => text.replace(`export declare ${name}`, `declare ${name}`), joined);
  // `export {}` makes `export` count
  const libraries = (entry.libraries ?? []).map((name) => `/// <reference lib="${name}" />\n`).join("");
  return `${banner(entry)}${libraries}${shown}export {};\n`;
}

const fresh = {};
for (const entry of ENTRIES) {
  fresh[`dist/${entry.name}.js`] = await bundle(entry);
  fresh[`dist/${entry.name}.d.ts`] = declarations(entry);
}

if (process.argv.includes("--check")) {
  const stale = Object.keys(fresh).filter((path) => readFileSync(path, "utf8") !== fresh[path]);
  if (stale.length > 0) {
    console.error(`not built from these sources: ${stale.join(", ")} (npm run build)`);
    process.exit(1);
  }
} else {
  for (const [path, text] of Object.entries(fresh)) writeFileSync(path, text);
}
