/**
 * The product: one file made by `deno compile`. Starts Deno and npx.
 */
import { demand, denoOfVersion } from "./run.ts";

/** How to compile. */
export interface CompileOptions {
  /** The bundle, or the entry itself where bundling was impossible. */
  readonly program: string;
  /** Given for an entry that is not a bundle. */
  readonly config?: string;
  readonly output: string;
  /** Version of the runtime part where it cannot be read from it. */
  readonly denoVersion?: string;
}

/** Milliseconds for Deno to download its runtime part (about 40 MB). */
const DOWNLOAD_DEADLINE = 120_000;

/** Compiles, with the runtime part in DENORT_BIN or else with the one Deno downloads; gives the version of the runtime. */
export async function compileProgram(options: CompileOptions): Promise<string> {
  const denort = denortGiven();
  const version = options.denoVersion ?? (denort ? await versionOfRuntime(denort) : Deno.version.deno);
  await demand(`compile with Deno ${version}`, [await denoOfVersion(version), ...compileArguments(options)], {
    env: { DENO_TLS_CA_STORE: "system", NO_COLOR: "1" },
    deadline: denort ? undefined : DOWNLOAD_DEADLINE,
  });
  return version;
}

function compileArguments({ program, config, output }: CompileOptions): string[] {
  const settings = config === undefined ? ["--no-config", "--no-lock"] : ["--config", config];
  // Compiled programs keep a code cache in the temporary directory under a name anyone can guess; mobula runs as root.
  return [
    "compile",
    "--quiet",
    "--allow-all",
    "--no-check",
    "--no-code-cache",
    ...settings,
    "--output",
    output,
    program,
  ];
}

/** The runtime part given in DENORT_BIN; an empty value, which Deno would take for a path, means none. */
export function denortGiven(): string | undefined {
  if (Deno.env.get("DENORT_BIN") === "") Deno.env.delete("DENORT_BIN");
  return Deno.env.get("DENORT_BIN");
}

/** Finds out of which Deno a runtime part is: it holds its own user agent, `Deno/2.4.2`. */
export async function versionOfRuntime(path: string): Promise<string> {
  const bytes = await Deno.readFile(path);
  const text = new TextDecoder("latin1");
  const piece = 1 << 24;
  for (let at = 0; at < bytes.length; at += piece) {
    const found = text.decode(bytes.subarray(at, at + piece + 64)).match(/Deno\/(\d+\.\d+\.\d+)(?![\d.])/);
    if (found) return found[1]!;
  }
  throw new Error(`Cannot find the version of ${path}: no "Deno/<version>" in it; give --deno-version`);
}
