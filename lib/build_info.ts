/**
 * What this build is: source, compiled or self-unpacking, and its version. Reads `Deno.build` and one global variable, nothing else.
 */
import config from "../deno.json" with { type: "json" };

/** How the running program was made. */
export type BuildKind = "source" | "compiled" | "self-unpacking";

/** What `--version` tells. */
export interface BuildInfo {
  readonly kind: BuildKind;
  /** From `deno.json`. */
  readonly version: string;
  /** Version of the Deno runtime inside. */
  readonly deno: string;
}

/**
 * The global variable that the first line of a self-unpacking program sets (see `selfUnpackingPrelude` in `scripts/compile`); an
 * environment variable alone would also be seen by a program run from source as a child.
 */
declare global {
  var mobulaSelf: string | undefined;
}

/** Tells how the running program was made. */
export function buildInfo(): BuildInfo {
  return { kind: buildKind(), version: config.version, deno: Deno.version.deno };
}

/** One line for `--version`, e.g. `mobula 0.1.0 (compiled, Deno 2.9.6)`. */
export function renderBuildInfo({ kind, version, deno }: BuildInfo): string {
  return `mobula ${version} (${kind}, Deno ${deno})`;
}

function buildKind(): BuildKind {
  if (Deno.build.standalone) return "compiled";
  return globalThis.mobulaSelf === undefined ? "source" : "self-unpacking";
}
