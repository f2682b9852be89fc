/**
 * `mobula host session`: many requests over one connection and one process. Each line of standard input is a request, each line of
 * the answer an event with the number of its request (see protocol.ts). Requests run at the same time.
 */
import type { HostEvent, SessionEvent, SessionRequest } from "./protocol.ts";

/** Milliseconds without a request after which a session ends: its connection may be gone without a sign. */
const IDLE = 30 * 60_000;

/** Runs one request and reports its events; never throws. */
export type Serve = (
  verb: string,
  request: unknown,
  report: (event: HostEvent) => void,
) => Promise<unknown>;

/** Serves requests until the input ends, and finishes what has begun; a line that is no request is ignored. */
export async function serveSession(
  lines: AsyncIterator<string>,
  serve: Serve,
  write: (line: string) => void,
): Promise<void> {
  const running = new Set<Promise<unknown>>();
  write(JSON.stringify({ event: "ready" } satisfies SessionEvent));
  while (true) {
    const line = await nextLine(lines, running);
    if (line === undefined) break;
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

/** The next line; undefined at the end of the input, or after a long time in which nothing was asked and nothing ran. */
async function nextLine(
  lines: AsyncIterator<string>,
  running: ReadonlySet<unknown>,
): Promise<string | undefined> {
  const next = lines.next();
  while (true) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const idle = new Promise<"idle">((resolve) => timer = setTimeout(resolve, IDLE, "idle" as const));
    const outcome = await Promise.race([next, idle]).finally(() => clearTimeout(timer));
    if (outcome === "idle") {
      if (running.size === 0) return undefined;
    } else return outcome.done ? undefined : outcome.value;
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
