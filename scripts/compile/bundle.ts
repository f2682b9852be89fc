/**
 * Makes JavaScript of the program, in one file or in a few. Starts `deno bundle`, writes them.
 */
import { join } from "@std/path";
import { lastLines, run } from "./run.ts";

/**
 * CommonJS packages call `require("node:…")`, which a module does not have. The bundler takes it from `node:module`, or leaves it to a
 * global function: this one loads nothing before it is called.
 */
const REQUIRE = "(name) => globalThis.process.getBuiltinModule(name)";
const REQUIRE_PRELUDE = `globalThis.require ??= ${REQUIRE};\n`;

/** What Deno's bundler writes at the top of what calls `require`; loading `node:module` is half of the start of an empty program. */
const CREATE_REQUIRE =
  /import ?\{ ?createRequire as (\w+) ?\} ?from ?"node:module";\s*var ([\w$]+) ?= ?\1\(import\.meta\.url\);/;

/** What the bundle is for. */
export interface BundleOptions {
  readonly entry: string;
  /** The `deno.json` with the imports. */
  readonly config: string;
  /** The file, or the folder in which the entry has its own name. */
  readonly output: string;
  /** In several files, so that no verb costs the time to parse what only others need: for a program that keeps no compiled code. */
  readonly split?: boolean;
  /** JavaScript that runs before everything else in its file. */
  readonly prelude?: string;
}

/** Bundles and gives undefined, or gives the reason why it could not. */
export async function bundle(
  { entry, config, output, split = false, prelude = "" }: BundleOptions,
): Promise<string | undefined> {
  const argv = [
    Deno.execPath(),
    "bundle",
    "--quiet",
    "--config",
    config,
    "--minify",
    ...(split ? ["--code-splitting", "--outdir", output] : ["--output", output]),
    entry,
  ];
  const { ok, stderr } = await run(argv, { env: { DENO_TLS_CA_STORE: "system", NO_COLOR: "1" } });
  if (!ok) return lastLines(stderr);
  for (
    const file of split ? Array.from(Deno.readDirSync(output), ({ name }) => join(output, name)) : [output]
  ) {
    const text = cheapRequire(await Deno.readTextFile(file));
    await Deno.writeTextFile(file, prelude + REQUIRE_PRELUDE + (split ? text : deferNodeImports(text)));
  }
}

/** Replaces what the bundler makes of `require` by a function that loads nothing before it is called. */
export function cheapRequire(text: string): string {
  return text.replace(CREATE_REQUIRE, (_all, _create, name) => `var ${name}=${REQUIRE};`);
}

/** `import a,{b as c}from"node:x";`, minified or not: the default, the namespace, the names, and the module. */
const NODE_IMPORT =
  /(?<=^|[;}\n])import ?(?:([\w$]+) ?,? ?)?(?:\* ?as ([\w$]+) ?)?(?:\{([^{}]*)\} ?)?from ?"(node:[\w/]+)";/g;

/**
 * A bundle in one file imports Node's modules at its top, whatever it is going to do. This makes variables of these imports, to which
 * `globalThis.mobulaLoadNode` gives their values. A program that does not call it is left as it is.
 */
export function deferNodeImports(text: string): string {
  if (!text.includes("mobulaLoadNode")) return text;
  const names: string[] = [];
  const loads: string[] = [];
  const rest = text.replace(NODE_IMPORT, (_all, whole, namespace, list, module) => {
    const from = ` = globalThis.process.getBuiltinModule("${module}")`;
    const parts = readImportList(list ?? "");
    const wholes = [whole, namespace].filter((name) => name !== undefined);
    names.push(...wholes, ...parts.map(([, local]) => local));
    loads.push(...wholes.map((name) => `${name}${from};`));
    if (parts.length > 0) loads.push(`({${parts.map((part) => part.join(": ")).join(", ")}}${from});`);
    return "";
  });
  if (names.length === 0) return rest;
  return `let ${names.join(", ")};\nglobalThis.mobulaLoadNode = () => {\n${loads.join("\n")}\n};\n${rest}`;
}

/** `a as b, c` → `[["a", "b"], ["c", "c"]]`. */
function readImportList(list: string): [string, string][] {
  return list.split(",").map((part) => part.trim()).filter((part) => part !== "").map((part) => {
    const [name = "", local = name] = part.split(/ as /);
    return [name, local];
  });
}
