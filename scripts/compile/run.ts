/**
 * Starts the programs a build needs. Starts processes.
 */

/** The Deno that a self-unpacking file carries unless `--deno-version` says otherwise. */
export const RUNTIME_VERSION = "2.9.6";

/** What a finished program left behind. */
export interface Finished {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program is to be run. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds after which the program is ended. */
  readonly deadline?: number;
}

/** Runs a program to its end and collects what it says; a program that is missing or too slow counts as failed. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [program, ...args] = argv as [string, ...string[]];
  const stop = AbortSignal.timeout(options.deadline ?? 300_000);
  try {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args,
      cwd: options.cwd,
      env: options.env,
      stdin: "null",
      signal: stop,
    }).output();
    const text = new TextDecoder();
    const late = stop.aborted ? `\n${program} was ended after ${(options.deadline ?? 300_000) / 1000} s` : "";
    return { ok: success && late === "", stdout: text.decode(stdout), stderr: text.decode(stderr) + late };
  } catch (error) {
    return { ok: false, stdout: "", stderr: `Cannot run ${program}: ${(error as Error).message}` };
  }
}

/** Runs a program and gives its standard output; a failure is an error that begins with what was wanted. */
export async function demand(
  wanted: string,
  argv: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { ok, stdout, stderr } = await run(argv, options);
  if (!ok) throw new Error(`Cannot ${wanted}: ${lastLines(stderr) || "it said nothing"}`);
  return stdout;
}

/** The last lines of what a program said, in one line, without colours and without a stack trace. */
export function lastLines(text: string, count = 4): string {
  // deno-lint-ignore no-control-regex
  const plain = text.replaceAll(/\x1b\[[0-9;]*m/g, "").split(/^stack backtrace:/im)[0]!;
  return plain.split("\n").map((line) => line.trim()).filter((line) => line !== "").slice(-count).join("; ");
}

/** The path of a Deno of exactly this version: the running one, else one from the npm registry. */
export async function denoOfVersion(version: string): Promise<string> {
  if (version === Deno.version.deno) return Deno.execPath();
  const path = await demand(
    `get Deno ${version} from the npm registry`,
    ["npx", "-y", `deno@${version}`, "eval", "console.log(Deno.execPath())"],
    // npm's own trust settings do not reach Deno: let it trust what the machine trusts.
    { env: { DENO_TLS_CA_STORE: "system", NO_COLOR: "1" } },
  );
  return path.trim();
}
