/**
 * Lines to standard output and standard error. Effects: writes them.
 */

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
