/**
 * The program: arguments → one verb. The only place that ends the process.
 */
import { buildInfo, renderBuildInfo } from "./lib/build_info.ts";
import { findHostVerb } from "./lib/commands/up.ts";
import {
  CommandError,
  ConfigError,
  EXIT,
  HostError,
  LockedError,
  TransportError,
  UsageError,
} from "./lib/errors.ts";
import { writeErrorLine, writeLine } from "./lib/ui/lines.ts";

/**
 * What systemd and the deployer call on a host ends at the first word: a shutdown waits 90 s for whoever does not. All of it may be cut
 * off anywhere, and is repeated or taken back at the next boot. `follow` looks for the word itself.
 */
const HOST_VERBS: readonly string[] = ["host", "up", "undo"];

/** A program in one file loads Node's modules by this, which no host's verb needs (see `deferNodeImports` in `scripts/compile`). */
declare global {
  var mobulaLoadNode: (() => void) | undefined;
}

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs one verb; gives the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const atOnce = HOST_VERBS.includes(args[0] ?? "");
  const stop = () => atOnce || interrupt.signal.aborted ? Deno.exit(EXIT.interrupted) : interrupt.abort();
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);
  try {
    return await run(args, interrupt.signal);
  } catch (error) {
    if (interrupt.signal.aborted) return interrupted();
    return explain(error, args.includes("--verbose"));
  }
}

/** The command line and its libraries are loaded only for what needs them: they would be most of the start of a host's verb. */
async function run(args: readonly string[], signal: AbortSignal): Promise<number> {
  if (args.length === 1 && args[0] === "--version") {
    writeLine(renderBuildInfo(buildInfo()));
    return EXIT.ok;
  }
  const verb = findHostVerb(args);
  if (verb) return await verb(signal);
  globalThis.mobulaLoadNode?.();
  const { buildProgram } = await import("./lib/commands/program.ts");
  return await buildProgram().run(args, signal);
}

function interrupted(): number {
  writeErrorLine(
    "Interrupted. The hosts may be half done: push again, with --reinstall where that asks for it",
  );
  return EXIT.interrupted;
}

/** Says what was wrong, on standard error, and gives the exit code. */
function explain(error: unknown, verbose: boolean): number {
  if (error instanceof ConfigError || error instanceof UsageError) {
    writeErrorLine(error.message);
    return EXIT.usage;
  }
  if (error instanceof LockedError) {
    writeErrorLine(error.message);
    return EXIT.locked;
  }
  if (error instanceof HostError || error instanceof TransportError || error instanceof CommandError) {
    writeErrorLine(error.message);
    return EXIT.someFailed;
  }
  const message = error instanceof Error ? `${error.name}: ${error.message.split("\n")[0]}` : String(error);
  writeErrorLine(
    `A defect of mobula: ${message}. Please report it, with what "--verbose" adds and "mobula --version"`,
  );
  if (verbose && error instanceof Error) writeErrorLine(error.stack ?? "");
  return EXIT.internal;
}
