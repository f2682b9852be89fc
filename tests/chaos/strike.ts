/**
 * Runs inside the pushed program, on a host. Every effect (a command, a line of an `ip` batch, a written file) is a point with a name:
 * it is written to a log, and where the order names it, the program dies there or waits until whoever gave the order has struck.
 * Does nothing on a host without the folder of the lab's fault injection.
 */
import { LocalRunner } from "../../lib/host/local_runner.ts";
import type { Output, Step } from "../../lib/step.ts";

/** Below it lie the log and the order; made by the lab. It outlives a reboot: an order is carried out once. */
export const CHAOS_DIR = "/var/lib/chaos";
export const LOG_FILE = `${CHAOS_DIR}/log`;
export const ORDER_FILE = `${CHAOS_DIR}/order`;
/** The order under this name has been carried out, or waits for `GO_FILE`. */
export const TAKEN_FILE = `${CHAOS_DIR}/taken`;
export const GO_FILE = "/run/chaos-go";

/** One effect of one verb: the n-th of its name, from 1. */
export interface Effect {
  readonly verb: string;
  readonly title: string;
  readonly nth: number;
}

/** Where to strike, and how: `die` before it happens, `die-during` while it does; `wait` lets somebody else strike. */
export interface Order extends Effect {
  readonly how: "die" | "die-during" | "wait";
}

/** What differs from run to run, numbers of generations and names of keys for example, is no part of a point's name. */
const PASSING: readonly (readonly [RegExp, string])[] = [
  [/(generations?[ /])\d+/g, "$1N"],
  [/[\w-]{43}\.key/g, "KEY.key"],
  [/\bmtu \d+/g, "mtu N"],
  [/^ping .*/, "ping"],
  [/^(set WireGuard peer)s? .*/, "$1s"],
  [/^remove \d+ WireGuard peers?/, "remove WireGuard peers"],
  [/: \d+ changes?$/, ": changes"],
  [/ask for \d+ of \d+/, "ask for"],
];

/** The part of a title, or of a line, that is the same in every run. */
export function lastingName(title: string): string {
  return PASSING.reduce((name, [pattern, text]) => name.replace(pattern, text), title);
}

/** Wraps the runner that all effects on a host go through. */
export function makeStrikable(args: readonly string[]): void {
  if (!exists(CHAOS_DIR)) return;
  let verb = args[0] === "host" ? args[1] ?? "" : args[0] ?? "";
  if (verb === "session") watchRequests((next) => verb = next);
  const counts = new Map<string, number>();
  const { run, writeFile } = LocalRunner.prototype;

  /** Gives how the point is to be struck, if it is. */
  function arrive(fullTitle: string): Order["how"] | undefined {
    const title = lastingName(fullTitle);
    const point = `${verb} ${title}`;
    const nth = (counts.get(point) ?? countLogged(verb, title)) + 1;
    counts.set(point, nth);
    quietly(() =>
      Deno.writeTextFileSync(LOG_FILE, `${JSON.stringify({ verb, title, nth })}\n`, { append: true })
    );
    const order = readOrder();
    if (order?.verb !== verb || order.title !== title || order.nth !== nth) return undefined;
    Deno.renameSync(ORDER_FILE, TAKEN_FILE);
    return order.how;
  }

  async function strikeAt(title: string, begin: () => void): Promise<void> {
    const how = arrive(title);
    if (how === undefined) return;
    if (how === "die-during") begin();
    if (how !== "wait") Deno.kill(Deno.pid, "SIGKILL");
    while (!exists(GO_FILE)) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  LocalRunner.prototype.run = async function (step: Step): Promise<Output> {
    const lines = batchLines(step);
    if (lines === undefined) {
      await strikeAt(step.title, () => void run.call(this, step));
      return await run.call(this, step);
    }
    // Line by line, as if the power went between two of them.
    for (const [index, { title, line }] of lines.entries()) {
      const single = { ...step, title, stdin: line };
      await strikeAt(title, () => void run.call(this, single));
      const output = await run.call(this, single);
      const stderr = output.stderr.replace(/-:1\b/, `-:${index + 1}`);
      if (output.code !== 0) return { ...output, stderr };
    }
    return { code: 0, stdout: "", stderr: "" };
  };

  LocalRunner.prototype.writeFile = async function (file) {
    const half = () => quietly(() => Deno.writeTextFileSync(`${file.path}.mobula-new`, "half a fi"));
    await strikeAt(`${file.content === undefined ? "remove" : "write"} ${file.path}`, half);
    await writeFile.call(this, file);
  };
}

/** Calls `onVerb` with the verb of each request that the session reads; `extend` comes in the middle of another one. */
function watchRequests(onVerb: (verb: string) => void): void {
  const decoder = new TextDecoder();
  const watch = (chunk: Uint8Array) => {
    const verbs = [...decoder.decode(chunk, { stream: true }).matchAll(/^\{"id":\d+,"verb":"([\w-]+)"/gm)];
    for (const [, verb = ""] of verbs) if (verb !== "extend") onVerb(verb);
  };
  const read = Deno.stdin.read.bind(Deno.stdin);
  Deno.stdin.read = async (bytes) => {
    const count = await read(bytes);
    if (count !== null) watch(bytes.subarray(0, count));
    return count;
  };
}

/** The lines of an `ip` batch with the steps' titles; undefined for any other command. */
function batchLines({ argv, title, stdin }: Step): { title: string; line: string }[] | undefined {
  if (argv.join(" ") !== "ip -batch -" || stdin === undefined) return undefined;
  const lines = stdin.split("\n").filter((line) => line !== "");
  const titles = title.split(", ");
  return lines.map((line, index) => ({
    title: titles.length === lines.length ? titles[index]! : `ip ${line}`,
    line: `${line}\n`,
  }));
}

/** How often an earlier process of this verb has come by here. */
function countLogged(verb: string, title: string): number {
  return readLog(quietly(() => Deno.readTextFileSync(LOG_FILE)) ?? "")
    .filter((effect) => effect.verb === verb && effect.title === title).length;
}

/** The log → its effects; a line that was cut off is left out. */
export function readLog(text: string): Effect[] {
  return text.split("\n").flatMap((line) => quietly(() => [JSON.parse(line) as Effect]) ?? []);
}

function readOrder(): Order | undefined {
  return quietly(() => JSON.parse(Deno.readTextFileSync(ORDER_FILE)) as Order);
}

/** The injected fault must be the only one: what only serves the injection may fail. */
function quietly<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function exists(path: string): boolean {
  return quietly(() => Deno.lstatSync(path)) !== undefined;
}
