/**
 * Pings many addresses at once: one shell with lanes, each of which takes its targets one after the other. The texts and what they
 * say are pure; `pingAll` runs the shell.
 */
import type { Runner } from "../step.ts";
import type { OversizeOutcome } from "./protocol.ts";

/** One packet to one address; `bytes` counts the IP and ICMP headers. */
export interface Ping {
  readonly address: string;
  readonly bytes: number;
}

/** What a ping said, on one line, and its exit code. */
export interface Pinged {
  readonly code: number;
  readonly said: string;
}

/** How many at once, and how long each may take, seconds. */
export interface PingOptions {
  readonly lanes: number;
  readonly patience: number;
  /** Sends a packet again and again until one is answered, instead of one alone: the network is only about to come up. */
  readonly repeat?: boolean;
  /** Asks from the gateway's namespace. */
  readonly fromGateway?: boolean;
}

/** Bytes of the IPv4 and ICMP headers, which ping's `-s` does not count. */
const HEADERS = 28;
/** The smallest packet that is asked with. */
export const SMALLEST_PING = 84;

/** Seconds between two packets to an address that does not answer yet. */
const REPEAT = 0.2;

/** Sends every packet once, or until it is answered, never in fragments; the answers are in the order of the pings. */
export async function pingAll(
  runner: Runner,
  pings: readonly Ping[],
  options: PingOptions,
): Promise<readonly Pinged[]> {
  if (pings.length === 0) return [];
  const { stdout } = await runner.run({
    title: `ping ${pings.length} addresses`,
    argv: ["sh", "-s"],
    stdin: pingScript(pings, options),
    ...(options.fromGateway ? { namespace: "mobula" } : {}),
  });
  return parsePings(stdout, pings.length);
}

/** The script whose output `parsePings` takes: `<index> <exit code> <all that ping said>`. */
export function pingScript(pings: readonly Ping[], { lanes, patience, repeat = false }: PingOptions): string {
  // ping(8): with a deadline (-w), -c counts the answers.
  const limit = repeat ? `-w ${patience} -i ${REPEAT}` : `-W ${patience}`;
  const lines = pings.map(({ address, bytes }, index) => `${index} ${bytes - HEADERS} ${address}\n`);
  const count = Math.min(lanes, lines.length);
  const heredocs = Array.from({ length: count }, (_, lane) => {
    const own = lines.filter((_, index) => index % count === lane);
    return `lane <<'E' &\n${own.join("")}E\n`;
  });
  return `set -f
lane() {
  while read -r index size address; do
    said=$(ping -n -c 1 ${limit} -M do -s "$size" "$address" 2>&1 </dev/null)
    echo "$index" $? $said
  done
}
${heredocs.join("")}wait
`;
}

/** The script's lines come as they are done; a ping without a line has no answer. */
export function parsePings(output: string, count: number): Pinged[] {
  const pinged: Pinged[] = Array.from({ length: count }, () => ({ code: 1, said: "" }));
  for (const [, index, code, said] of output.matchAll(/^(\d+) (\d+) ?(.*)$/gm)) {
    if (Number(index) < count) pinged[Number(index)] = { code: Number(code), said: said ?? "" };
  }
  return pinged;
}

/** Milliseconds there and back; null without an answer. */
export function roundTripOf({ code, said }: Pinged): number | null {
  return code === 0 ? Number(/ time[=<]([\d.]+)/.exec(said)?.[1] ?? 0) : null;
}

/** What became of a packet that is one byte too large: iputils' words for EMSGSIZE, and for ICMP's "fragmentation needed". */
export function oversizeOutcome({ code, said }: Pinged): OversizeOutcome {
  if (code === 0) return "answered";
  if (/message too long/i.test(said)) return "refused";
  return /frag needed/i.test(said) ? "reported" : "lost";
}

/** Steps of one round of the search, so that three rounds find one size in more than a thousand. */
const SEARCH_STEPS = 12;

/** Bytes of the largest packet that passes to an address, 0 for none; what is known already: `full` does not. */
export async function largestPassing(
  ask: (bytes: readonly number[]) => Promise<readonly boolean[]>,
  full: number,
): Promise<number> {
  const [small] = await ask([SMALLEST_PING]);
  if (!small) return 0;
  let [passes, fails] = [SMALLEST_PING, full];
  while (fails - passes > 1) {
    const sizes = searchSizes(passes, fails);
    const answers = await ask(sizes);
    const lost = answers.indexOf(false);
    if (lost >= 0) fails = sizes[lost]!;
    passes = lost < 0 ? sizes.at(-1)! : lost === 0 ? passes : sizes[lost - 1]!;
  }
  return passes;
}

function searchSizes(passes: number, fails: number): number[] {
  const steps = Math.min(SEARCH_STEPS, fails - passes - 1);
  const sizes = Array.from(
    { length: steps },
    (_, step) => passes + Math.round(((fails - passes) * (step + 1)) / (steps + 1)),
  );
  return [...new Set(sizes)].filter((size) => size > passes && size < fails);
}
