/**
 * Lines to standard output and standard error: the edge of all output, which nothing passes that a terminal would obey but our own
 * colours. Effects: writes them.
 */
import { withColoursOnly } from "../plain.ts";

/** Writes one line to standard output. */
export function writeLine(line: string): void {
  writeAll(Deno.stdout, `${withColoursOnly(line)}\n`);
}

/** Writes one line to standard error. */
export function writeErrorLine(line: string): void {
  writeAll(Deno.stderr, `${withColoursOnly(line)}\n`);
}

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(stream.writeSync(bytes));
}
