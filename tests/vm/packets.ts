/** Packets of an exact size, and streams of full segments, between places of the machines' lab. Runs `ping` and `socat` on hosts. */
import type { Lab } from "../lab/lab.ts";
import { expectCode } from "../lab/proof.ts";
import { waitFor } from "../lab/wait.ts";

/** A host, or a namespace of it. */
export interface Spot {
  readonly host: string;
  readonly namespace?: string;
}

/** A question: does a packet of so many bytes, headers included, pass unfragmented? */
export interface Sized {
  readonly address: string;
  readonly size: number;
}

const IP_AND_ICMP = 28;

/** Don't-fragment is set; three are sent, because an emulated machine may be late with the first. */
const PING_SIZED =
  'while [ $# -gt 0 ]; do (ping -n -q -c 3 -i 0.3 -W 5 -M do -s "$2" "$1" >/dev/null 2>&1 || echo "$1 $2") & shift 2; done; wait';

/** Those of the packets that did not get there and back whole. */
export async function notPassed(lab: Lab, spot: Spot, packets: readonly Sized[]): Promise<Sized[]> {
  const words = packets.flatMap(({ address, size }) => [address, String(size - IP_AND_ICMP)]);
  const result = await lab.exec(spot.host, ["sh", "-c", PING_SIZED, "sh", ...words], {
    namespace: spot.namespace,
  });
  expectCode(result, 0, `the pings of ${spot.host}`);
  return result.stdout.split("\n").filter((line) => line !== "").map((line) => {
    const [address = "", size] = line.split(" ");
    return { address, size: Number(size) + IP_AND_ICMP };
  });
}

/** Bytes of a stream in each direction: many full segments. */
const STREAM_BYTES = 300_000;
const STREAM_PORT = 9000;
const STREAM_SECONDS = 90;

/** Counts what comes, then says the count and sends as much. */
const SERVER = [
  "socat",
  `TCP-LISTEN:${STREAM_PORT},fork,reuseaddr`,
  `SYSTEM:wc -c; head -c ${STREAM_BYTES} /dev/zero`,
];

const CLIENT = `head -c ${STREAM_BYTES} /dev/zero | timeout ${STREAM_SECONDS} socat -t ${STREAM_SECONDS} - \
TCP:$0:${STREAM_PORT} | { read -r count; echo "$count $(wc -c)"; }`;

/** What `stream` gives where all bytes have passed in both directions. */
export const WHOLE = `${STREAM_BYTES} ${STREAM_BYTES}`;

/** The command line of a server of streams. */
export function streamServer(): readonly string[] {
  return SERVER;
}

/** Starts a server of streams on a machine, until it is stopped or the machine reboots. */
export async function serveStreams(lab: Lab, { host, namespace }: Spot): Promise<void> {
  const enter = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
  const unit = `lab-streams-${namespace ?? "host"}`;
  if ((await lab.exec(host, ["systemctl", "is-active", "-q", unit])).code === 0) return;
  // Collected, so that one that was stopped stands in nobody's way.
  const argv = ["systemd-run", "--quiet", "--collect", `--unit=${unit}`, ...enter, ...SERVER];
  expectCode(await lab.exec(host, argv), 0, `the server of streams on ${host}`);
  const listening = ["sh", "-c", `ss -Htln "sport = ${STREAM_PORT}" | grep -q .`];
  await waitFor(
    `the server of streams on ${host}`,
    async () => (await lab.exec(host, listening, { namespace })).code === 0,
  );
}

/** The command line that sends a stream and takes one; says how many bytes got there and came back. */
export function streamArgv(address: string): string[] {
  return ["sh", "-c", CLIENT, address];
}

/** Sends a stream from a machine to a server and takes one; gives how many bytes got there and came back. */
export async function stream(lab: Lab, { host, namespace }: Spot, address: string): Promise<string> {
  return (await lab.exec(host, streamArgv(address), { namespace })).stdout.trim();
}
