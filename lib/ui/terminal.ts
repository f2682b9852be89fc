/**
 * Which kind of progress fits the place it is shown at. Effects: asks about the terminal and NO_COLOR, writes lines.
 */
import { setColorEnabled } from "@std/fmt/colors";
import { LiveProgress } from "./live.ts";
import { PlainProgress, type Progress, SilentProgress } from "./progress.ts";

/** What the command line says about output. */
export interface OutputOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** Writes one line to standard output. */
export function writeLine(line: string): void {
  writeAll(Deno.stdout, `${line}\n`);
}

/** Writes one line to standard error. */
export function writeErrorLine(line: string): void {
  writeAll(Deno.stderr, `${line}\n`);
}

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
}

/** Live lines on a terminal that has room for them, plain lines elsewhere, nothing beside JSON. */
export function progressFor({ json, verbose = false }: OutputOptions): Progress {
  if (json) return new SilentProgress();
  const options = { verbose, write: writeLine };
  const live = Deno.stdout.isTerminal() && !verbose && Deno.env.get("TERM") !== "dumb";
  return live ? new LiveProgress(options, rows() - 3) : new PlainProgress(options);
}

/** Colours only where somebody sees them and nobody has asked for none. */
export function settleColours(): void {
  setColorEnabled(Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR"));
}

function rows(): number {
  try {
    return Deno.consoleSize().rows || 24;
  } catch {
    return 24;
  }
}
