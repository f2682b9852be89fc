/**
 * Makes JavaScript of the program, in one file or in a few. Starts `deno bundle`, writes them.
 */
import { join } from "@std/path";
import { lastLines, run } from "./run.ts";

/**
 * The bundler leaves `require("node:…")` of CommonJS packages to a global function, which a module does not have.
 */
const REQUIRE =
  `import { createRequire as mobulaRequire } from "node:module"; globalThis.require ??= mobulaRequire(import.meta.url);\n`;

/** What the bundle is for. */
export interface BundleOptions {
  readonly entry: string;
  /** The `deno.json` with the imports. */
  readonly config: string;
  /** The file, or the folder in which the entry has its own name. */
  readonly output: string;
  /** In several files, so that no verb costs the time to parse what only others need. */
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
    await Deno.writeTextFile(file, REQUIRE + prelude + await Deno.readTextFile(file));
  }
}
