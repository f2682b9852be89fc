/**
 * What is measured on a path between two machines. Runs iperf3 and ping there.
 */
import type { Contender } from "./contenders.ts";
import type { Guest } from "./guests.ts";

/** The figures of one contender in one round. */
export type FigureName =
  | "tcp1"
  | "tcp4"
  | "udp64"
  | "udp64Lost"
  | "udpFull"
  | "udpFullLost"
  | "rtt"
  | "rttP99"
  | "cpu"
  | "machineCpu";

export type Figures = Readonly<Partial<Record<FigureName, number>>>;

/** A sender, a receiver and the network between them. */
export interface Path {
  readonly contender: Contender;
  readonly from: Guest;
  readonly to: Guest;
  /** The receiver's address on that network. */
  readonly address: string;
}

/** One thing that is done on a path; it may give several figures. */
export interface Measure {
  readonly name: string;
  readonly take: (path: Path) => Promise<Figures>;
}

/** A column of the table. */
export interface Column {
  readonly figure: FigureName;
  readonly title: string;
  readonly unit: string;
  /** Whose percentage of loss stands beside it. */
  readonly lost?: FigureName;
}

export const COLUMNS: readonly Column[] = [
  { figure: "tcp1", title: "TCP, 1 stream", unit: "Mbit/s" },
  { figure: "tcp4", title: "4 streams", unit: "Mbit/s" },
  { figure: "udp64", title: "UDP 64 B", unit: "Mbit/s", lost: "udp64Lost" },
  { figure: "udpFull", title: "UDP full size", unit: "Mbit/s", lost: "udpFullLost" },
  { figure: "rtt", title: "RTT", unit: "ms" },
  { figure: "rttP99", title: "RTT p99", unit: "ms" },
  { figure: "cpu", title: "CPU per bit", unit: "s/Gbit" },
];

const TCP_SECONDS = 3;
const UDP_SECONDS = 2;
const PINGS = 150;
const PING_INTERVAL_S = 0.01;
/** IPv4's and UDP's headers. */
const UDP_HEADERS = 28;

/** All measures, in the order in which they are taken. */
export const MEASURES: readonly Measure[] = [
  { name: "TCP, one stream", take: takeTcp1 },
  { name: "TCP, four streams", take: async (path) => ({ tcp4: (await takeTcp(path, 4)).rate }) },
  {
    name: "UDP of 64 bytes",
    take: async (path) => {
      const { rate, lost } = await takeUdp(path, 64);
      return { udp64: rate, udp64Lost: lost };
    },
  },
  {
    name: "UDP of full size",
    take: async (path) => {
      const { rate, lost } = await takeUdp(path, path.contender.mtu - UDP_HEADERS);
      return { udpFull: rate, udpFullLost: lost };
    },
  },
  { name: "round trip", take: takeRoundTrip },
];

/** What `iperf3 --json` says that we read. */
interface IperfReport {
  readonly error?: string;
  readonly end: {
    readonly sum_received: { readonly bits_per_second: number; readonly bytes: number };
    readonly sum?: { readonly lost_percent: number };
  };
}

const SERVER = `
systemctl stop bench-iperf3 2>/dev/null || true
systemd-run --quiet --collect --unit=bench-iperf3 --property=Restart=always iperf3 --server
`;

/** Starts the receivers' servers, also anew: one that lost its client in the middle of a test serves nobody else. */
export async function serve(guests: readonly Guest[]): Promise<void> {
  await Promise.all(guests.map(({ sh }) => sh(SERVER)));
}

async function iperf({ from, address }: Path, ...options: readonly string[]): Promise<IperfReport> {
  const script = 'timeout 60 iperf3 --json --connect-timeout 5000 --client "$@" || true';
  const report: IperfReport = JSON.parse(await from.sh(script, { args: [address, ...options] }));
  if (report.error === undefined) return report;
  throw new Error(
    `Cannot measure from ${from.name} to ${address}: ${report.error}; expected iperf3's figures`,
  );
}

async function takeTcp1(path: Path): Promise<Figures> {
  const before = await processorOf(path);
  const { rate, bits } = await takeTcp(path, 1);
  const after = await processorOf(path);
  const perGbit = (seconds: number) => seconds / (bits / 1e9);
  return {
    tcp1: rate,
    cpu: perGbit(after.guests - before.guests),
    machineCpu: perGbit(after.machines - before.machines),
  };
}

async function takeTcp(path: Path, streams: number): Promise<{ rate: number; bits: number }> {
  const { end } = await iperf(path, "--time", String(TCP_SECONDS), "--parallel", String(streams));
  return { rate: end.sum_received.bits_per_second / 1e6, bits: end.sum_received.bytes * 8 };
}

/** Sending all one can may leave the receiver no time to receive: the better of that, and of a little more than what arrived then. */
async function takeUdp(path: Path, payload: number): Promise<{ rate: number; lost: number }> {
  const flooded = await sendUdp(path, payload, 0);
  const paced = await sendUdp(path, payload, Math.ceil(flooded.rate * 1.1e6));
  return paced.rate > flooded.rate ? paced : flooded;
}

/** Megabits of payload received each second, and percent lost; a bandwidth of 0 is all that can be sent. */
async function sendUdp(
  path: Path,
  payload: number,
  bandwidth: number,
): Promise<{ rate: number; lost: number }> {
  const { end } = await iperf(
    path,
    ...["--udp", "--time", String(UDP_SECONDS), "--length", String(payload), "--bitrate", String(bandwidth)],
  );
  return { rate: end.sum_received.bits_per_second / 1e6, lost: end.sum?.lost_percent ?? NaN };
}

const PING = `ping -n -i ${PING_INTERVAL_S} -c ${PINGS} "$1"`;

async function takeRoundTrip({ from, address }: Path): Promise<Figures> {
  const said = await from.sh(PING, { args: [address] });
  const times = [...said.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time)).sort((a, b) => a - b);
  return { rtt: quantile(times, 0.5), rttP99: quantile(times, 0.99) };
}

/** Of values in ascending order. */
function quantile(values: readonly number[], part: number): number {
  return values[Math.min(values.length - 1, Math.floor(values.length * part))] ?? NaN;
}

/** Seconds of processor time that both ends' kernels, and their QEMUs, have counted so far. */
async function processorOf({ from, to }: Path): Promise<{ guests: number; machines: number }> {
  const ends = [from, to];
  const guests = await Promise.all(ends.map(({ sh }) => sh("head -n 1 /proc/stat").then(busySeconds)));
  return { guests: sum(guests), machines: sum(ends.map(({ machineSeconds }) => machineSeconds())) };
}

/** `cpu  user nice system idle iowait irq softirq steal …` in hundredths of a second → all but idle and iowait. */
function busySeconds(line: string): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.trim().split(/\s+/).slice(1).map(
    Number,
  );
  return (user + nice + system + irq + softirq) / 100;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
