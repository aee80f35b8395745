// Builds dist/: for each entry one module and its types. `--check` only reports whether the checked-in files are up to date.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
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
    declarations: ["error", "api", "types", "state", "subscription", "path", "emitter", "resident", "pagewire"],
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
  {
    name: "react",
    title: "Pagewire's hooks for React",
    source: "src/react/index.ts",
    platform: "browser",
    project: "tsconfig.react.json",
    declarations: ["react/types", "react/hooks"],
    hidden: [],
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

const IMPORT = /^import (?:type )?\{([^}]*)\} from "([^"]*)";\n/gm;

/** Returns the types as a single file: the declarations of all files, with what they import from other packages. */
function declarations(entry) {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", entry.project], { stdio: "inherit" });
  const texts = entry.declarations.map((name) => readFileSync(`build/types/${name}.d.ts`, "utf8"));
  const joined = texts.map((text) => text.replace(IMPORT, "").replace(/^export \{\};\n/gm, "")).join("");
  const shown = entry.hidden.reduce((text, name) => text.replace(`export declare ${name}`, `declare ${name}`), joined);
  const libraries = (entry.libraries ?? []).map((name) => `/// <reference lib="${name}" />\n`).join("");
  // `export {}` makes `export` count
  return `${banner(entry)}${libraries}${packages(texts)}${shown}export {};\n`;
}

/** Returns the imports of types from other packages, each name once. */
function packages(texts) {
  const imported = new Map();
  for (const [, list, from] of texts.flatMap((text) => [...text.matchAll(IMPORT)])) {
    const names = list.split(",").map((name) => name.trim().replace(/^type /, ""));
    if (!from.startsWith(".")) imported.set(from, new Set([...(imported.get(from) ?? []), ...names]));
  }
  return [...imported].map(([from, names]) => `import type { ${[...names].join(", ")} } from "${from}";\n`).join("");
}

const isCheck = process.argv.includes("--check");
const stale = [];
for (const entry of ENTRIES) {
  const fresh = { [`dist/${entry.name}.js`]: await bundle(entry), [`dist/${entry.name}.d.ts`]: declarations(entry) };
  for (const [path, text] of Object.entries(fresh)) {
    // written at once, because later entries import the types of this one
    if (!isCheck) writeFileSync(path, text);
    else if (!existsSync(path) || readFileSync(path, "utf8") !== text) stale.push(path);
  }
}
if (stale.length > 0) {
  console.error(`not built from these sources: ${stale.join(", ")} (npm run build)`);
  process.exit(1);
}
