/**
 * What the tests of the access network's switching need: paths that are cut, pings that are counted, and the switch's own counters.
 * Runs programs in the places of a lab.
 */
import { type Answer, fping, parseFping } from "./fping.ts";
import type { Lab, Place } from "./lab.ts";
import { isAlive, must, start } from "./process.ts";
import { ask } from "./snapshot.ts";
import { pause, waitFor } from "./wait.ts";

/** One direction between two hosts of the lab, by name. */
export type Direction = readonly [from: string, to: string];

const CUT_TABLE = "table bridge cut";

/** Drops all that goes in these directions on the underlay; whatever was cut before is whole again. */
export async function cutPaths(lab: Lab, ...directions: Direction[]): Promise<void> {
  const address = (name: string) => lab.host(name).address;
  await setCuts(
    lab,
    directions.map(([from, to]) => `ip saddr ${address(from)} ip daddr ${address(to)} drop`),
  );
}

/** Drops so many of a hundred packets that go in these directions; whatever was cut before is whole again. */
export async function thinPaths(lab: Lab, percent: number, ...directions: Direction[]): Promise<void> {
  const address = (name: string) => lab.host(name).address;
  await setCuts(
    lab,
    directions.map(([from, to]) =>
      `ip saddr ${address(from)} ip daddr ${address(to)} numgen random mod 100 < ${percent} drop`
    ),
  );
}

/** Takes hosts off the underlay, as if their cables were pulled: nothing that could notice it is told. */
export async function cutHosts(lab: Lab, ...names: string[]): Promise<void> {
  await setCuts(
    lab,
    names.flatMap((name) => [`iifname "vb-${name}" drop`, `oifname "vb-${name}" drop`]),
  );
}

/** Makes the underlay whole again. */
export async function mendPaths(lab: Lab): Promise<void> {
  await setCuts(lab, []);
}

async function setCuts(lab: Lab, rules: readonly string[]): Promise<void> {
  const chain = `chain forward { type filter hook forward priority 0;\n${rules.join("\n")}\n}`;
  const stdin = `${CUT_TABLE}\ndelete ${CUT_TABLE}\n${CUT_TABLE} {\n${chain}\n}\n`;
  await must(lab.world.enter(["nft", "-f", "-"]), { stdin });
}

/** What a ping that went on has seen. */
export interface Answers {
  readonly sent: number;
  readonly lost: number;
  /** Answers that came more than once. */
  readonly duplicates: number;
  /** Longest time between two answers, milliseconds. */
  readonly gap: number;
}

/** A ping that goes on. */
export interface Flow {
  readonly name: string;
  /** Answers until now. */
  readonly answers: () => number;
  readonly stop: () => Promise<Answers>;
}

export const INTERVAL_MS = 20;

/** Pings an address every 20 ms, unless told, until it is stopped; resolves after the first answers. */
export async function startFlow(
  lab: Lab,
  name: string,
  place: Place,
  address: string,
  { interval = INTERVAL_MS } = {},
): Promise<Flow> {
  const log = `${lab.directory}/flow-${crypto.randomUUID()}.log`;
  const argv = fping([address], { interval });
  const process = await start(place.enter(argv), { cgroup: lab.state.cgroup, log });
  const seen = () => seenOf(parseFping(Deno.readTextFileSync(log)));
  const answers = () => seen().numbers.length;
  await waitFor(`the first answers of ${name}`, () => answers() > 5);
  const stop = async () => {
    const before = answers();
    await waitFor(`later answers of ${name}`, () => answers() > before + 5);
    if (isAlive(process)) Deno.kill(process.pid, "SIGINT");
    await waitFor("fping to end", () => !isAlive(process), { intervalMs: 20 });
    const { numbers, gap } = seen();
    await Deno.remove(log);
    const distinct = new Set(numbers).size;
    const sent = Math.max(...numbers);
    return { sent, lost: sent - distinct, duplicates: numbers.length - distinct, gap };
  };
  return { name, answers, stop };
}

/** Answers → their numbers, and the longest time between two of them, milliseconds. */
function seenOf(answers: readonly Answer[]): { readonly numbers: readonly number[]; readonly gap: number } {
  const times = answers.map(({ time }) => time * 1000);
  const gaps = times.slice(1).map((time, index) => time - (times[index] ?? time));
  return { numbers: answers.map(({ number }) => number), gap: Math.round(Math.max(0, ...gaps)) };
}

/** Pings that run at the same time. */
export async function during(
  flows: readonly Flow[],
  work: () => Promise<unknown>,
  { quiet = false } = {},
): Promise<Readonly<Record<string, Answers>>> {
  const outcome = await work().then(() => undefined, (error: unknown) => ({ error }));
  const seen = await Promise.allSettled(flows.map(({ stop }) => stop()));
  if (outcome) throw outcome.error;
  return Object.fromEntries(seen.map((one, index) => {
    if (one.status === "rejected") throw one.reason;
    const { name } = flows[index]!;
    const { sent, lost, duplicates, gap } = one.value;
    if (!quiet) {
      console.log(`  ${name}: ${sent} sent, ${lost} lost, ${duplicates} twice, longest gap ${gap} ms`);
    }
    return [name, one.value];
  }));
}

const BRIDGE = "unix:/run/mobula/ovs/ovsbr-mobula.mgmt";

/** Runs ovs-ofctl on a host's bridge. */
export async function ofctl(lab: Lab, host: string, verb: string, ...args: string[]): Promise<string> {
  return await ask(lab, host, ["ovs-ofctl", "-O", "OpenFlow13", "--names", verb, BRIDGE, ...args]);
}

/** Runs ovs-vsctl on a host's own database. */
export async function vsctl(lab: Lab, host: string, ...args: string[]): Promise<string> {
  return await ask(lab, host, ["ovs-vsctl", "--db=unix:/run/mobula/ovs/db.sock", "--timeout=5", ...args]);
}

/** Asks a host's ovs-vswitchd. */
export async function appctl(lab: Lab, host: string, ...args: string[]): Promise<string> {
  return await ask(lab, host, ["ovs-appctl", "--timeout=5", "-t", "/run/mobula/ovs/vswitchd.ctl", ...args]);
}

/** The name of each tunnel port of a host that BFD has found alive. */
export async function livePorts(lab: Lab, host: string): Promise<string[]> {
  const columns = ["--format=csv", "--no-headings", "--columns=name", "find", "Interface"];
  return (await vsctl(lab, host, ...columns, "bfd_status:state=up")).split("\n").filter(Boolean).sort();
}

/** Waits until BFD says on every host that every other one is there, on both ports. */
export async function waitForPaths(lab: Lab, names: readonly string[], deadlineMs = 30_000): Promise<void> {
  await waitFor(`all paths between ${names.join(", ")}`, async () => {
    const live = await Promise.all(names.map((name) => livePorts(lab, name)));
    const wanted = (self: string) =>
      names.filter((name) => name !== self).map((name) => lab.host(name).id).flatMap((id) => [
        `mo-path-${id}`,
        `mo-t-${id}`,
      ]);
    return names.every((name, index) => wanted(name).every((port) => live[index]!.includes(port)));
  }, { deadlineMs });
}

/** How often a path must be found dead: on a busy machine it may also be down for a moment. */
const DEAD_TIMES = 10;

/** Waits until BFD says on a host that the direct path to another one is dead, and stays so. */
export async function waitForDeadPath(lab: Lab, [from, to]: Direction): Promise<void> {
  const port = `mo-path-${lab.host(to).id}`;
  let times = 0;
  await waitFor(`${from} to give up ${port}`, async () => {
    times = (await livePorts(lab, from)).includes(port) ? 0 : times + 1;
    return times >= DEAD_TIMES;
  }, { intervalMs: 20 });
}

/** How often a host's direct path to another one has come up or gone down, and whether it is used just now. */
export async function pathUse(lab: Lab, [from, to]: Direction): Promise<{ flaps: number; used: boolean }> {
  const peer = lab.host(to).id;
  const [status, held] = await Promise.all([
    vsctl(lab, from, "get", "Interface", `mo-path-${peer}`, "bfd_status"),
    ofctl(lab, from, "dump-flows", "table=2"),
  ]);
  const flaps = Number(/flap_count="?(\d+)/.exec(status)?.[1] ?? 0);
  const isHeld = [...held.matchAll(/reg1=(0x[0-9a-f]+|\d+)/g)].some(([, id]) => Number(id) === peer);
  return { flaps, used: /, state=up/.test(status) && !isHeld };
}

/** Waits until every direct path between these hosts is in use, and none is left alone because it has just died. */
export async function waitForUse(lab: Lab, names: readonly string[], deadlineMs = 60_000): Promise<void> {
  const pairs = names.flatMap((from) => names.filter((to) => to !== from).map((to): Direction => [from, to]));
  await waitFor(`the use of all paths between ${names.join(", ")}`, async () => {
    const uses = await Promise.all(pairs.map((pair) => pathUse(lab, pair)));
    return uses.every(({ used }) => used);
  }, { deadlineMs, intervalMs: 500 });
}

/** What became of a path while it was watched. */
export interface PathWatch {
  /** When the host gave it up, milliseconds. */
  readonly givenUp: readonly number[];
  /** Share of the looks at which it was not in use, 0 to 1. */
  readonly unused: number;
}

/** Looks at a host's path ten times a second for so many milliseconds. */
export async function watchPath(lab: Lab, path: Direction, milliseconds: number): Promise<PathWatch> {
  const until = performance.now() + milliseconds;
  const givenUp: number[] = [];
  let [looks, unused, was] = [0, 0, true];
  while (performance.now() < until) {
    const { used } = await pathUse(lab, path);
    looks++;
    if (!used) unused++;
    if (was && !used) givenUp.push(performance.now());
    was = used;
    await pause(100);
  }
  return { givenUp, unused: unused / looks };
}

/** Seconds between one time and the next. */
export function restsOf({ givenUp }: PathWatch): number[] {
  return givenUp.slice(1).map((at, index) => (at - givenUp[index]!) / 1000);
}

/** Waits until a host's switch that was started again has all that it had, and nobody works on it any more. */
export async function waitForHealed(lab: Lab, host: string, deadlineMs = 60_000): Promise<void> {
  const script =
    "systemctl is-active --quiet mobula-vswitchd.service && test -e /run/mobula/flows.listing && " +
    "! systemctl is-active mobula-heal.service | grep -qx -e active -e activating";
  await waitFor(
    `the repair of ${host}`,
    async () => (await lab.exec(host, ["sh", "-c", script])).code === 0,
    {
      deadlineMs,
    },
  );
}

const WATCH_RESTART = `while kill -0 "$1" 2>/dev/null; do sleep 0.01; done
gone=$(date +%s%3N)
until ovs-ofctl -O OpenFlow13 dump-flows ${BRIDGE} table=4 2>/dev/null | grep -q group:; do
  sleep 0.01
done
echo $(($(date +%s%3N) - gone))`;

/** Milliseconds from the end of a host's switch, this process, until it has its flows again. */
export async function watchRestart(lab: Lab, host: string, pid: number): Promise<number> {
  return Number(await ask(lab, host, ["sh", "-c", WATCH_RESTART, "sh", String(pid)]));
}

/** The host that is the root of the tree. */
export async function rootHost(lab: Lab, names: readonly string[]): Promise<string> {
  for (const name of names) {
    if (/This bridge is the root/.test(await appctl(lab, name, "rstp/show", "ovsbr-mobula"))) return name;
  }
  throw new Error(`Cannot find the root among ${names.join(", ")}; expected one host that says so`);
}

/** Bytes that have come out of a host's tunnels, by port. */
type Received = Readonly<Record<string, number>>;

/**
 * Bytes that have come out of tunnels, by host. What goes in is counted twice by the userspace datapath: once by the flow, once by the
 * tunnel.
 */
async function received(lab: Lab, names: readonly string[]): Promise<readonly Received[]> {
  const texts = await Promise.all(names.map((name) => ofctl(lab, name, "dump-ports")));
  return texts.map((text) =>
    Object.fromEntries(
      [...text.matchAll(/"?(mo-(?:t-\d+|path-\d+|relay))"?: rx pkts=\d+, bytes=(\d+)/g)]
        .map(([, port, bytes]) => [port, Number(bytes)]),
    )
  );
}

/** Bytes of a full-sized ping on the wire: ICMP, IPv4 and Ethernet headers included. */
const PING = { count: 250, payload: 1300, frame: 1300 + 8 + 20 + 14 } as const;
/** Of a pair's frames so many must have come by its own path: some may have come just before the counters were read. */
const NEARLY_ALL = 0.98;

/** How frames went while every pair pinged. */
export interface Stretch {
  /** Bytes out of tunnels for each byte that was sent at all: 1.00 is one hop for everybody. */
  readonly hops: number;
  /** Directions, of all pairs, whose frames did not come by the direct path between the two: `alpha -> beta`. */
  readonly indirect: readonly string[];
}

/** Frames' way through the fleet, counted on the ports. What runs beside it (BFD) is measured first and taken off. */
export async function pathStretch(lab: Lab, names: readonly string[]): Promise<Stretch> {
  const gateway = (name: string) => `10.31.${lab.host(name).id >> 8}.${lab.host(name).id & 255}`;
  const pairs = names.flatMap((one, index) => names.slice(index + 1).map((other) => [one, other] as const));
  const ping = (count: number, size: number) => async ([from, to]: readonly [string, string]) => {
    const argv = ["ping", "-n", "-q", "-i", "0.004", "-c", String(count), "-s", String(size), gateway(to)];
    const said = await must(lab.network(from, "mobula").enter(argv));
    return Number(/(\d+) received/.exec(said)?.[1]);
  };
  // Everybody knows where everybody is.
  for (const pair of pairs) await ping(5, 56)(pair);
  const noise = await growth(lab, names, () => new Promise((resolve) => setTimeout(resolve, 2000)));
  let frames = 0;
  const work = await growth(lab, names, async () => {
    for (const pair of pairs) frames += PING.count + await ping(PING.count, PING.payload)(pair);
  });
  const bytes = total(work.received) - total(noise.received) / noise.seconds * work.seconds;
  const indirect = names.flatMap((to, index) =>
    names.filter((from) => from !== to).filter((from) => {
      const own = work.received[index]![`mo-path-${lab.host(from).id}`] ?? 0;
      return own < NEARLY_ALL * PING.count * PING.frame;
    }).map((from) => `${from} -> ${to}`)
  );
  return { hops: bytes / (frames * PING.frame), indirect };
}

function total(received: readonly Received[]): number {
  return received.flatMap((ports) => Object.values(ports)).reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * Waits until frames take as many hops as they are to, and where that is one, each pair its own path: for some seconds after a change of
 * the tree, switches forget where everybody is, and flood. Prints what was measured.
 */
export async function waitForStretch(lab: Lab, names: readonly string[], wanted: number): Promise<void> {
  await waitFor(
    `a path stretch of ${wanted.toFixed(2)}`,
    async () => {
      const { hops, indirect } = await pathStretch(lab, names);
      console.log(`  path stretch of ${names.length} hosts: ${hops.toFixed(3)}`);
      if (wanted === 1 && indirect.length > 0) throw new Error(`not direct: ${indirect.join(", ")}`);
      if (Math.abs(hops - wanted) < 0.05) return true;
      throw new Error(`${hops.toFixed(3)}`);
    },
    { deadlineMs: 45_000 },
  );
}

/** How much the tunnels have carried while the work went on; the switch brings its counters up to date every half second. */
async function growth(
  lab: Lab,
  names: readonly string[],
  work: () => Promise<unknown>,
): Promise<{ readonly received: readonly Received[]; readonly seconds: number }> {
  const [before, at] = [await received(lab, names), performance.now()];
  await work();
  await Promise.all(names.map((name) => appctl(lab, name, "revalidator/wait")));
  const after = await received(lab, names);
  const grown = after.map((ports, index) =>
    Object.fromEntries(
      Object.entries(ports).map(([port, bytes]) => [port, bytes - (before[index]![port] ?? 0)]),
    )
  );
  return { received: grown, seconds: (performance.now() - at) / 1000 };
}

/** An entry of table 1: who is where. */
export interface Learned {
  readonly mac: string;
  readonly vlan: number;
  /** The host on whose direct path it is; 0 for none. */
  readonly host: number;
  /** Seconds since it was first learned. */
  readonly age: number;
}

/** What a host's switch has learned. */
export async function learned(lab: Lab, host: string): Promise<Learned[]> {
  const text = await ofctl(lab, host, "dump-flows", "table=1");
  return [
    ...text.matchAll(
      /duration=([0-9.]+)s.*?(?:vlan_tci=0x([0-9a-f]+)\/0x0?fff,)?dl_dst=([0-9a-f:]+) .*?load:(?:0x)?([0-9a-f]+)->NXM_NX_REG1/g,
    ),
  ]
    .map(([, age, vlan = "0", mac, id]) => ({
      mac: mac!,
      vlan: parseInt(vlan, 16),
      host: parseInt(id!, 16),
      age: Number(age),
    }));
}
