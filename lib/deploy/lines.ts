/**
 * Bytes of a stream → lines of text, or the whole text, within bounds. Effects: only the stream it is given.
 */

/** Bytes of one line, of all lines together, of a text that is kept, and of the end of one of which only that is kept. */
export const BOUNDS = { line: 1 << 20, lines: 256 << 20, text: 16 << 20, tail: 64 << 10 } as const;

/** Somebody says more than anybody has to. */
export class TooMuchOutput extends Error {
  override name = "TooMuchOutput";
}

/** Calls `onLine` for every line, the last one even without its newline; TooMuchOutput beyond the bounds. */
export async function pumpLines(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
  bounds: { readonly line: number; readonly lines: number } = BOUNDS,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > bounds.lines) throw new TooMuchOutput(`more than ${megabytes(bounds.lines)}`);
    const parts = decoder.decode(chunk, { stream: true }).split("\n");
    parts[0] = rest + parts[0];
    rest = parts.pop() ?? "";
    if (rest.length > bounds.line) throw new TooMuchOutput(`a line of more than ${megabytes(bounds.line)}`);
    parts.forEach(onLine);
  }
  rest += decoder.decode();
  if (rest !== "") onLine(rest);
}

/** The whole text; TooMuchOutput beyond the bound. */
export async function readText(
  stream: ReadableStream<Uint8Array>,
  bound: number = BOUNDS.text,
): Promise<string> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > bound) throw new TooMuchOutput(`more than ${megabytes(bound)}`);
    parts.push(decoder.decode(chunk, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}

/** The end of the text; TooMuchOutput where there is more than `bound` of it. */
export async function readTail(
  stream: ReadableStream<Uint8Array>,
  { tail, bound }: { readonly tail: number; readonly bound: number } = {
    tail: BOUNDS.tail,
    bound: BOUNDS.text,
  },
): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let total = 0;
  for await (const chunk of stream) {
    total += chunk.length;
    if (total > bound) throw new TooMuchOutput(`more than ${megabytes(bound)} of complaints`);
    text = (text + decoder.decode(chunk, { stream: true })).slice(-tail);
  }
  return (text + decoder.decode()).slice(-tail);
}

function megabytes(bytes: number): string {
  return `${bytes / (1 << 20)} MiB`;
}
