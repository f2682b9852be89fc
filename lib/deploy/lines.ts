/**
 * Bytes of a stream → lines of text, or the whole text, within bounds. Effects: only the stream it is given.
 */

/** Bytes of one line, of all lines together, of a text that is kept, and of the end of one of which only that is kept. */
export const BOUNDS = { line: 1 << 20, lines: 256 << 20, text: 16 << 20, tail: 64 << 10 } as const;

/** Somebody says more than anybody has to. */
export class TooMuchOutput extends Error {
  override name = "TooMuchOutput";
}

/** The pieces of a stream, until its end or until the signal. */
async function* piecesOf(
  stream: ReadableStream<Uint8Array>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", cancel);
  if (signal?.aborted) cancel();
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/** Calls `onLine` for every line, the last one even without its newline; TooMuchOutput beyond the bounds. */
export async function pumpLines(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
  { line, lines, signal }: { readonly line: number; readonly lines: number; readonly signal?: AbortSignal } =
    BOUNDS,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  let total = 0;
  for await (const chunk of piecesOf(stream, signal)) {
    total += chunk.length;
    if (total > lines) throw new TooMuchOutput(`more than ${megabytes(lines)}`);
    const parts = decoder.decode(chunk, { stream: true }).split("\n");
    parts[0] = rest + parts[0];
    rest = parts.pop() ?? "";
    if (rest.length > line) throw new TooMuchOutput(`a line of more than ${megabytes(line)}`);
    parts.forEach(onLine);
  }
  rest += decoder.decode();
  if (rest !== "") onLine(rest);
}

/** The whole text; TooMuchOutput beyond the bound. */
export async function readText(
  stream: ReadableStream<Uint8Array>,
  { text, signal }: { readonly text: number; readonly signal?: AbortSignal } = BOUNDS,
): Promise<string> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let total = 0;
  for await (const chunk of piecesOf(stream, signal)) {
    total += chunk.length;
    if (total > text) throw new TooMuchOutput(`more than ${megabytes(text)}`);
    parts.push(decoder.decode(chunk, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}

/** The last `tail` characters of the text; TooMuchOutput where there are more than `text` bytes of it. */
export async function readTail(
  stream: ReadableStream<Uint8Array>,
  { tail, text, signal }: { readonly tail: number; readonly text: number; readonly signal?: AbortSignal } =
    BOUNDS,
): Promise<string> {
  const decoder = new TextDecoder();
  let end = "";
  let total = 0;
  for await (const chunk of piecesOf(stream, signal)) {
    total += chunk.length;
    if (total > text) throw new TooMuchOutput(`more than ${megabytes(text)} of complaints`);
    end = (end + decoder.decode(chunk, { stream: true })).slice(-tail);
  }
  return (end + decoder.decode()).slice(-tail);
}

function megabytes(bytes: number): string {
  return `${bytes / (1 << 20)} MiB`;
}
