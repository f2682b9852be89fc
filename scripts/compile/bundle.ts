/**
 * Makes one JavaScript file of the program. Starts `deno bundle`, writes the file.
 */
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
  readonly output: string;
  /** JavaScript that runs before everything else. */
  readonly prelude?: string;
}

/** Bundles and gives undefined, or gives the reason why it could not. */
export async function bundle(
  { entry, config, output, prelude = "" }: BundleOptions,
): Promise<string | undefined> {
  const argv = [
    Deno.execPath(),
    "bundle",
    "--quiet",
    "--config",
    config,
    "--minify",
    "--output",
    output,
    entry,
  ];
  const { ok, stderr } = await run(argv, { env: { DENO_TLS_CA_STORE: "system", NO_COLOR: "1" } });
  if (!ok) return lastLines(stderr);
  await Deno.writeTextFile(output, REQUIRE + prelude + await Deno.readTextFile(output));
}
