/**
 * `mobula host session`: many requests over one connection and one process. Each line of standard input is a request, each line of
 * the answer an event with the number of its request (see protocol.ts). Requests run at the same time.
 */
import type { HostEvent, SessionEvent, SessionRequest } from "./protocol.ts";

/** Milliseconds without a request after which a session ends: its connection may be gone without a sign. */
const IDLE = 30 * 60_000;

/** Bytes, as a file or a pipe gives them; null at the end. */
export interface Input {
  read(bytes: Uint8Array): Promise<number | null>;
}

/** Runs one request and reports its events; never throws. */
export type Serve = (
  verb: string,
  request: unknown,
  report: (event: HostEvent) => void,
) => Promise<unknown>;

/** Serves requests until the input ends, and finishes what has begun; a line that is no request is ignored. */
export async function serveSession(input: Input, serve: Serve, write: (line: string) => void): Promise<void> {
  const running = new Set<Promise<unknown>>();
  write(JSON.stringify({ event: "ready" } satisfies SessionEvent));
  for await (const line of linesOf(input, () => running.size === 0)) {
    const asked = parseRequest(line);
    if (!asked) continue;
    const { id, verb, request } = asked;
    const work = serve(
      verb,
      request,
      (event) => write(JSON.stringify({ id, ...event } satisfies SessionEvent)),
    );
    running.add(work);
    work.finally(() => running.delete(work));
  }
  await Promise.all(running);
}

/** The lines of the input, until it ends, or until nothing came for a long time and the session is idle. */
async function* linesOf(input: Input, isIdle: () => boolean): AsyncGenerator<string> {
  // Without streams: loading them would take a tenth of the start.
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65_536);
  let rest = "";
  while (true) {
    const count = await readUnlessIdle(input, bytes, isIdle);
    if (count === null) return;
    const lines = (rest + decoder.decode(bytes.subarray(0, count), { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

async function readUnlessIdle(
  input: Input,
  bytes: Uint8Array,
  isIdle: () => boolean,
): Promise<number | null> {
  const read = input.read(bytes);
  while (true) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const quiet = new Promise<"quiet">((resolve) => timer = setTimeout(resolve, IDLE, "quiet" as const));
    const outcome = await Promise.race([read, quiet]).finally(() => clearTimeout(timer));
    if (outcome !== "quiet") return outcome;
    if (isIdle()) return null;
  }
}

function parseRequest(line: string): SessionRequest | undefined {
  try {
    const { id, verb, request } = JSON.parse(line);
    return typeof id === "number" && typeof verb === "string" ? { id, verb, request } : undefined;
  } catch {
    return undefined;
  }
}
