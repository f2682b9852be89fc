/**
 * Which kind of progress fits the place it is shown at. Effects: asks about the terminal.
 */
import { writeLine } from "./lines.ts";
import { LiveProgress } from "./live.ts";
import { PlainProgress, type Progress, SilentProgress } from "./progress.ts";

/** What the command line says about output. */
export interface OutputOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** Live lines on a terminal that has room for them, plain lines elsewhere, nothing beside JSON. */
export function progressFor({ json, verbose = false }: OutputOptions): Progress {
  if (json) return new SilentProgress();
  const options = { verbose, write: writeLine };
  const live = Deno.stdout.isTerminal() && !verbose && Deno.env.get("TERM") !== "dumb";
  return live ? new LiveProgress(options, rows() - 3) : new PlainProgress(options);
}

function rows(): number {
  try {
    return Deno.consoleSize().rows || 24;
  } catch {
    return 24;
  }
}
