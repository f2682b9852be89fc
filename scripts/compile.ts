/**
 * `deno task compile`: makes the one executable. By `deno compile` wherever that is possible, else self-unpacking; says which.
 * Starts Deno, writes the output and `.cache/`.
 */
import { Command, Option } from "@commander-js/extra-typings";
import { basename, dirname, extname, fromFileUrl, resolve } from "@std/path";
import { gzipCopy } from "../lib/executable.ts";
import type { BuildKind } from "../lib/build_info.ts";
import config from "../deno.json" with { type: "json" };
import { bundle } from "./compile/bundle.ts";
import { compileProgram, denortGiven } from "./compile/compiled.ts";
import { denoOfVersion, RUNTIME_VERSION } from "./compile/run.ts";
import { packProgram, selfUnpackingPrelude } from "./compile/self_unpacking.ts";

const ROOT = resolve(dirname(fromFileUrl(import.meta.url)), "..");

/** What travels to a host, in bytes. */
const SIZE_LIMIT = 45e6;

/** What to make. */
export interface MakeOptions {
  readonly entry: string;
  readonly output: string;
  readonly kind: "auto" | Exclude<BuildKind, "source">;
  /** Deno to compile with, or to carry. */
  readonly denoVersion?: string;
}

/** What was made. */
export interface Made {
  readonly kind: Exclude<BuildKind, "source">;
  readonly output: string;
  /** Version of the Deno inside. */
  readonly deno: string;
  /** Why this kind. */
  readonly reason: string;
  /** Length in bytes. */
  readonly size: number;
  /** Length of what travels to a host, in bytes. */
  readonly gzipped: number;
}

/** Makes the executable; the output appears in one step, when it is finished. */
export async function makeExecutable(options: MakeOptions): Promise<Made> {
  demandSupportedMachine();
  const output = resolve(options.output);
  await Deno.mkdir(dirname(output), { recursive: true });
  const work = await Deno.makeTempDir({ dir: dirname(output), prefix: ".compile-" });
  try {
    const made = await makeKind({ ...options, entry: resolve(options.entry) }, work);
    const path = `${work}/mobula`;
    const { size } = await Deno.stat(path);
    const gzipped = await gzipCopy({ kind: made.kind, path }, `${work}/mobula.gz`);
    if (gzipped > SIZE_LIMIT) {
      throw new Error(
        `Cannot ship ${output}: ${megabytes(gzipped)} compressed; expected at most ${megabytes(SIZE_LIMIT)}`,
      );
    }
    await Deno.rename(path, output);
    return { ...made, output, size, gzipped };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

type Chosen = Pick<Made, "kind" | "deno" | "reason">;

async function makeKind(options: MakeOptions, work: string): Promise<Chosen> {
  switch (options.kind) {
    case "compiled":
      return await compiled(options, work);
    case "self-unpacking":
      return await selfUnpacking(options, work, "asked for");
    case "auto":
      try {
        return await compiled(options, work);
      } catch (error) {
        return await selfUnpacking(options, work, (error as Error).message);
      }
  }
}

async function compiled({ entry, denoVersion }: MakeOptions, work: string): Promise<Chosen> {
  const folder = `${work}/program`;
  const failure = await bundle({ entry, config: `${ROOT}/deno.json`, output: folder, split: true });
  const source = failure === undefined
    ? { program: `${folder}/${basename(entry, extname(entry))}.js` }
    : { program: entry, config: `${ROOT}/deno.json` };
  const deno = await compileProgram({ ...source, output: `${work}/mobula`, denoVersion });
  const runtime = denortGiven() ? "runtime part from DENORT_BIN" : "runtime part downloaded by Deno";
  return { kind: "compiled", deno, reason: failure ? `${runtime}; not bundled: ${failure}` : runtime };
}

async function selfUnpacking(
  { entry, denoVersion }: MakeOptions,
  work: string,
  reason: string,
): Promise<Chosen> {
  const program = `${work}/program.js`;
  const prelude = selfUnpackingPrelude;
  const failure = await bundle({ entry, config: `${ROOT}/deno.json`, output: program, prelude });
  if (failure !== undefined) throw new Error(`Cannot bundle ${entry}: ${failure}`);
  const version = denoVersion ?? RUNTIME_VERSION;
  const deno = await denoOfVersion(version);
  await packProgram({
    program,
    version: config.version,
    deno,
    output: `${work}/mobula`,
    cache: `${ROOT}/.cache`,
  });
  return { kind: "self-unpacking", deno: version, reason };
}

function demandSupportedMachine(): void {
  const { os, arch } = Deno.build;
  if (os === "linux" && arch === "x86_64") return;
  throw new Error(
    `Cannot make an executable on ${os} ${arch}: expected linux x86_64, the only machine supported now`,
  );
}

/** Renders what was made, for people. */
export function renderMade({ kind, output, deno, reason, size, gzipped }: Made): string {
  return `${output}: ${kind} (Deno ${deno}), ${megabytes(size)}, ${
    megabytes(gzipped)
  } gzipped\n  why ${kind}: ${reason}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

if (import.meta.main) {
  const options = new Command("compile")
    .description("makes the one executable")
    .option("--output <file>", "where to write it", `${ROOT}/dist/mobula`)
    .option("--entry <file>", "the program", `${ROOT}/main.ts`)
    .option("--deno-version <version>", "Deno to compile with or to carry")
    .addOption(
      new Option("--kind <kind>", "which of the two").choices(["compiled", "self-unpacking", "auto"]).default(
        "auto" as const,
      ),
    )
    .parse(["deno", "compile", ...Deno.args])
    .opts();
  try {
    console.log(renderMade(await makeExecutable(options)));
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
