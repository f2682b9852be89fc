/**
 * Questions to the network, asked from a place of the lab: who answers, what a name means, how often a frame arrives. Runs `ping`,
 * `getent` and `bash` of this machine in that place.
 */
import { hostAddresses } from "../../lib/address.ts";
import type { Lab, LabHost, Place } from "./lab.ts";
import { isAlive, must, type ProcessRecord, start } from "./process.ts";
import { pause, waitFor } from "./wait.ts";

const PING_ALL =
  'for address; do (ping -n -q -c 1 -W 2 "$address" >/dev/null 2>&1 || echo "$address") & done; wait';

/** Those of the addresses that do not answer a ping. */
export async function unreached(place: Place, addresses: readonly string[]): Promise<string[]> {
  const said = await must(place.enter(["sh", "-c", PING_ALL, "sh", ...addresses]));
  return said.split("\n").filter((line) => line !== "").sort();
}

/** Waits until all the addresses answer; the deadline counts from now. */
export async function waitForAnswers(
  what: string,
  place: () => Place,
  addresses: readonly string[],
  deadlineMs: number,
): Promise<void> {
  let missing: string[] = [...addresses];
  try {
    await waitFor(what, async () => (missing = await unreached(place(), missing)).length === 0, {
      deadlineMs,
      intervalMs: 200,
    });
  } catch {
    throw new Error(`Cannot reach ${missing.join(", ")} (${what}) within ${deadlineMs} ms`);
  }
}

/** Every inner address of the hosts, by the network it belongs to. */
export function innerAddresses(hosts: readonly Pick<LabHost, "id">[]) {
  const all = hosts.map(({ id }) => hostAddresses(id));
  return {
    access: all.map(({ access }) => access),
    gateways: all.map(({ gateway }) => gateway),
    intrawire: all.map(({ intrawire }) => intrawire),
  };
}

/** The same as one list. */
export function allInnerAddresses(hosts: readonly Pick<LabHost, "id">[]): string[] {
  const { access, gateways, intrawire } = innerAddresses(hosts);
  return [...access, ...gateways, ...intrawire];
}

const RESOLVE = `
file=$(mktemp); trap 'rm -f "$file"' EXIT
printf 'nameserver %s\\noptions timeout:2 attempts:2\\n' "$1" >"$file"; shift
mount --bind "$file" /etc/resolv.conf
for name; do echo "$name $(getent ahostsv4 "$name" | awk 'NR == 1 { print $1 }')"; done
umount /etc/resolv.conf
`;

/** Asks a name server from a place; a name without an answer has the empty address. */
export async function resolveAt(
  place: Place,
  server: string,
  names: readonly string[],
): Promise<Record<string, string>> {
  const script = ["unshare", "--mount", "--propagation", "slave", "sh", "-eu", "-c", RESOLVE, "sh"];
  const said = await must(place.enter([...script, server, ...names]));
  const lines = said.split("\n").filter((line) => line !== "");
  return Object.fromEntries(lines.map((line) => line.split(" ") as [string, string]));
}

const GET = "exec 3<>/dev/tcp/$0/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 | tail -n 1";

/** The address under which a web server sees the one who asks; the empty text where it does not answer. */
export async function seenAddress(place: Pick<Place, "exec">, server: string): Promise<string> {
  const { stdout } = await place.exec(["timeout", "5", "bash", "-c", GET, server]);
  return stdout.trim();
}

/** A ping that goes on. */
export interface LongPing {
  /** Ends it; gives how many were sent and the numbers of those without an answer. */
  readonly stop: () => Promise<{ readonly sent: number; readonly lost: readonly number[] }>;
}

/** Pings an address every 50 ms until it is stopped; resolves after the first answer. */
export async function startPing(lab: Lab, place: Place, address: string): Promise<LongPing> {
  const log = `${lab.directory}/ping-${crypto.randomUUID()}.log`;
  const process = await start(place.enter(["ping", "-n", "-i", "0.05", address]), {
    cgroup: lab.state.cgroup,
    log,
  });
  const answers = () => answered(Deno.readTextFileSync(log));
  await waitFor(`the first answer of ${address}`, () => answers().length > 0);
  const stop = async () => {
    const before = Math.max(...answers());
    await waitFor(`a later answer of ${address}`, () => Math.max(...answers()) > before + 2);
    await endProcess(process);
    const seen = answers();
    const last = Math.max(...seen);
    const lost = Array.from({ length: last }, (_, index) => index + 1).filter((seq) => !seen.includes(seq));
    await Deno.remove(log);
    return { sent: last, lost };
  };
  return { stop };
}

function answered(text: string): number[] {
  return [...text.matchAll(/bytes from .* icmp_seq=(\d+) /g)].map(([, seq]) => Number(seq));
}

async function endProcess(process: ProcessRecord): Promise<void> {
  if (isAlive(process)) Deno.kill(process.pid, "SIGINT");
  await waitFor("ping to end", () => !isAlive(process), { intervalMs: 20 });
}

/** Every argument list that existed on this machine (its containers included) while the work went on. */
export async function argumentListsDuring<T>(work: () => Promise<T>): Promise<[T, Set<string>]> {
  const seen = new Set<string>();
  let done = false;
  const sampling = (async () => {
    while (!done) {
      readArgumentLists(seen);
      await pause(40);
    }
  })();
  try {
    return [await work(), seen];
  } finally {
    done = true;
    await sampling;
  }
}

function readArgumentLists(seen: Set<string>): void {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      seen.add(Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " "));
    } catch {
      // It has ended meanwhile.
    }
  }
}
