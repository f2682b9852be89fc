/**
 * `mobula host session`: many requests over one connection and one process. Each line of standard input is a request, each line of
 * the answer an event with the number of its request (see protocol.ts). Requests run at the same time.
 */
import type { ActivateResult, HostEvent, SessionEvent, SessionRequest, StatusResult } from "./protocol.ts";

/** Milliseconds without a request after which a session ends: its connection may be gone without a sign. */
const IDLE = 10 * 60_000;
/** The same after an answer to which the next request comes at once: an activation is under way, and may cut the connection. */
const CUT_OFF = 15_000;

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

/**
 * Serves requests until the input ends, or until an answer says that the connection is about to be cut: its end may then never arrive.
 * Finishes what has begun; a line that is no request is ignored.
 */
export async function serveSession(input: Input, serve: Serve, write: (line: string) => void): Promise<void> {
  const running = new Set<Promise<unknown>>();
  const cut = Promise.withResolvers<null>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  write(JSON.stringify({ event: "ready" } satisfies SessionEvent));
  for await (const line of linesOf(input, { isIdle: () => running.size === 0, cut: cut.promise })) {
    const asked = parseRequest(line);
    if (!asked) continue;
    clearTimeout(timer);
    const { id, verb, request } = asked;
    const work = serve(verb, request, (event) => {
      if (isCutOff(event)) cut.resolve(null);
      if (isUnderWay(event)) timer = setTimeout(cut.resolve, CUT_OFF, null);
      write(JSON.stringify({ id, ...event } satisfies SessionEvent));
    });
    running.add(work);
    work.finally(() => running.delete(work));
  }
  clearTimeout(timer);
  await Promise.all(running);
}

/** What `activate` answers where the external interface is about to move, and `status` as long as it has not. */
function isUnderWay(event: HostEvent): boolean {
  if (event.event !== "result") return false;
  const result = event.result as Partial<StatusResult & ActivateResult> | null;
  return result?.activation === "running" || result?.cutsConnection === true;
}

/** What `status` answers when it moves. */
function isCutOff(event: HostEvent): boolean {
  return event.event === "result" && (event.result as Partial<StatusResult> | null)?.cut === true;
}

/** When a session ends before its input does. */
interface Ends {
  /** Nothing runs. */
  readonly isIdle: () => boolean;
  readonly cut: Promise<null>;
}

/** The lines of the input, until it ends, is cut, or until nothing came for a long time and the session is idle. */
async function* linesOf(input: Input, ends: Ends): AsyncGenerator<string> {
  // Without streams: loading them would take a tenth of the start.
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65_536);
  let rest = "";
  while (true) {
    const count = await readUntil(ends, input.read(bytes));
    if (count === null) return;
    const lines = (rest + decoder.decode(bytes.subarray(0, count), { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

async function readUntil({ isIdle, cut }: Ends, read: Promise<number | null>): Promise<number | null> {
  while (true) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const quiet = new Promise<"quiet">((resolve) => timer = setTimeout(resolve, IDLE, "quiet" as const));
    const outcome = await Promise.race([read, cut, quiet]).finally(() => clearTimeout(timer));
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
