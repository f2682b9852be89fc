/**
 * Bytes of a stream → lines of text. Effects: only the stream it is given.
 */

/** Calls `onLine` for every line, the last one even without its newline. */
export async function pumpLines(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    parts.forEach(onLine);
  }
  rest += decoder.decode();
  if (rest !== "") onLine(rest);
}
