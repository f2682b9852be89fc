/**
 * `deno task bench failover`: how long traffic stands still when something of the access network dies, in labs of containers or, with
 * `--machines`, of virtual machines whose kernels carry. Figures only: nothing here passes or fails. Makes labs and removes them.
 */
import { Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { hostAddresses } from "../../lib/address.ts";
import { LINK } from "../../lib/net/network.ts";
import { executable } from "../../tests/lab/executables.ts";
import { writeInventory } from "../../tests/lab/inventory.ts";
import { type HostOptions, type Lab, withLab } from "../../tests/lab/lab.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../../tests/lab/packages.ts";
import { waitForAnswers } from "../../tests/lab/probes.ts";
import { expectCode, mobula } from "../../tests/lab/proof.ts";
import { ask, mainPids } from "../../tests/lab/snapshot.ts";
import {
  type Answers,
  cutHosts,
  cutPaths,
  during,
  INTERVAL_MS,
  mendPaths,
  ofctl,
  pathStretch,
  startFlow,
  waitForDeadPath,
  waitForHealed,
  waitForPaths,
  waitForUse,
  watchRestart,
} from "../../tests/lab/switching.ts";
import { pause } from "../../tests/lab/wait.ts";
import { VM_PACKAGES } from "../../tests/vm/qemu.ts";
import { type Halves, measureOutages, measureThinPath, median, THIN_TITLE } from "./outages.ts";

/** What was asked for. */
export interface FailoverOptions {
  /** How often each case is tried. */
  readonly rounds: number;
  /** How often each of the long ones is: a minute without an underlay, in two halves, or with packets lost. */
  readonly outages: number;
  /** Only cases whose title holds this. */
  readonly only: string;
  /** The short cases between virtual machines, in place of containers. */
  readonly machines: boolean;
  /** Sizes of the fleets whose path stretch and idle switches are measured; empty: none. */
  readonly hosts: readonly number[];
}

/** One case: something happens while pings run. */
interface Case {
  readonly title: string;
  /** Resolves, where a switch goes and returns, with the milliseconds for which it was gone. */
  readonly work: (lab: Lab) => Promise<number | void>;
}

/** What one try has shown. */
interface Try {
  readonly answers: Readonly<Record<string, Answers>>;
  readonly gone: number | undefined;
}

const THREE = ["alpha", "beta", "gamma"];
/** The fleet of the long cases. */
const HALVES: Halves = [["alpha", "beta"], ["gamma", "delta"]];
/** Between whom pings run, on which network. Cases strike alpha and its pair with beta. */
const FLOWS = [
  { name: "access, alpha - beta", from: "alpha", to: "beta", network: "gateway" },
  { name: "intrawire, alpha - beta", from: "alpha", to: "beta", network: "intrawire" },
  { name: "access, beta - gamma", from: "beta", to: "gamma", network: "gateway" },
  { name: "intrawire, beta - gamma", from: "beta", to: "gamma", network: "intrawire" },
] as const;

const BOTH = [["alpha", "beta"], ["beta", "alpha"]] as const;

const CASES: readonly Case[] = [
  { title: "the path of alpha and beta cut both ways", work: (lab) => cutAndWait(lab, ...BOTH) },
  { title: "the path returns", work: mend },
  { title: "cut one way, alpha to beta", work: (lab) => cutAndWait(lab, BOTH[0]) },
  { title: "the path returns", work: mend },
  { title: "alpha, the root, cut off", work: cutRoot },
  { title: "alpha returns", work: mend },
  { title: "vswitchd of alpha killed", work: killSwitch },
  { title: "vswitchd of alpha restarted by systemctl", work: restartSwitch },
  { title: "the groups of alpha deleted by hand, then `mobula up`", work: deleteGroups },
];

/** Time for traffic to find its new way before the pings are stopped, milliseconds. */
const AFTERMATH = 1500;

async function cutAndWait(lab: Lab, ...cuts: (readonly [string, string])[]): Promise<void> {
  await cutPaths(lab, ...cuts);
  await Promise.all(BOTH.map((direction) => waitForDeadPath(lab, direction)));
  await pause(AFTERMATH);
}

async function mend(lab: Lab): Promise<void> {
  await mendPaths(lab);
  await waitForPaths(lab, THREE);
  await pause(AFTERMATH);
}

async function cutRoot(lab: Lab): Promise<void> {
  await cutHosts(lab, "alpha");
  await Promise.all(["beta", "gamma"].map((name) => waitForDeadPath(lab, [name, "alpha"])));
  await pause(AFTERMATH);
}

async function killSwitch(lab: Lab): Promise<number> {
  return await whileGone(lab, (pid) => ask(lab, "alpha", ["kill", "-9", String(pid)]));
}

async function restartSwitch(lab: Lab): Promise<number> {
  return await whileGone(lab, () => ask(lab, "alpha", ["systemctl", "restart", "mobula-vswitchd.service"]));
}

async function whileGone(lab: Lab, go: (pid: number) => Promise<unknown>): Promise<number> {
  const { vswitchd } = await mainPids(lab, "alpha");
  const [gone] = await Promise.all([watchRestart(lab, "alpha", vswitchd), go(vswitchd)]);
  await healed(lab);
  return gone;
}

/** Milliseconds; an emulated machine repairs itself in two minutes, and may have to try twice. */
const HEALED_DEADLINE_MS = 600_000;

async function healed(lab: Lab): Promise<void> {
  await pause(AFTERMATH);
  await waitForPaths(lab, THREE, HEALED_DEADLINE_MS);
  await waitForHealed(lab, "alpha", HEALED_DEADLINE_MS);
  await waitForAnswers("alpha", () => lab.network("beta", "mobula"), ["10.31.0.2"], 20_000);
}

async function deleteGroups(lab: Lab): Promise<void> {
  await ofctl(lab, "alpha", "del-groups");
  await pause(AFTERMATH);
  await ask(lab, "alpha", ["/opt/mobula/bin/mobula", "up"]);
}

/** Milliseconds; four flows with more pings than that are all that an emulated machine has time for. */
function pingInterval({ state }: Lab): number {
  return state.hosts.some(({ kind }) => kind === "machine") ? 50 : INTERVAL_MS;
}

/** Runs one case once; a host that is cut off answers nobody, so its pings are left out then. What is struck is in use. */
async function runOnce(lab: Lab, { title, work }: Case): Promise<Try> {
  if (!/returns/.test(title)) await waitForUse(lab, THREE);
  const cutOff = /alpha, the root|alpha returns/.test(title);
  const chosen = FLOWS.filter(({ from }) => !(cutOff && from === "alpha"));
  const flows = await Promise.all(chosen.map(({ name, from, to, network }) => {
    const place = network === "gateway" ? lab.network(from, "mobula") : lab.network(from);
    return startFlow(lab, name, place, hostAddresses(lab.host(to).id)[network], {
      interval: pingInterval(lab),
    });
  }));
  let gone: number | undefined;
  const answers = await during(flows, async () => void (gone = await work(lab) ?? undefined), {
    quiet: true,
  });
  return { answers, gone };
}

/** Runs all cases so many times and prints the table. */
export async function measureCases(lab: Lab, rounds: number, only = ""): Promise<void> {
  const cases = CASES.filter(({ title }) => title.includes(only));
  const seen = cases.map((): Try[] => []);
  await mend(lab);
  try {
    for (let round = 1; round <= rounds; round++) {
      const gaps: string[] = [];
      for (const [index, one] of cases.entries()) {
        const shown = await runOnce(lab, one);
        seen[index]!.push(shown);
        gaps.push(Object.values(shown.answers).map(({ gap }) => gap).join("/"));
      }
      const load = Deno.loadavg()[0]!.toFixed(1);
      console.log(
        `round ${round} of ${rounds}: longest gaps of each case ${gaps.join(", ")} ms, load ${load}`,
      );
    }
  } finally {
    printTable(cases, seen);
  }
}

/** Also of the rounds before one that failed. */
function printTable(cases: readonly Case[], seen: readonly Try[][]): void {
  console.log(
    `\n${"longest time without an answer, ms".padEnd(54)}${"median".padStart(8)}${"worst".padStart(8)}  lost`,
  );
  for (const [index, { title }] of cases.entries()) {
    console.log(title);
    for (const { name } of FLOWS) printRow(name, seen[index]!.flatMap(({ answers }) => answers[name] ?? []));
    const gone = seen[index]!.flatMap(({ gone }) => gone ?? []).sort((a, b) => a - b);
    if (gone.length > 0) console.log(row("the switch was gone for", median(gone), gone.at(-1)));
  }
}

function printRow(name: string, answers: readonly Answers[]): void {
  if (answers.length === 0) return;
  const gaps = answers.map(({ gap }) => gap).sort((a, b) => a - b);
  const lost = answers.map((one) => one.lost).sort((a, b) => a - b);
  const duplicates = answers.reduce((sum, one) => sum + one.duplicates, 0);
  const twice = duplicates === 0 ? "" : `, ${duplicates} twice`;
  console.log(`${row(name, median(gaps), gaps.at(-1))}  ${median(lost)}, at most ${lost.at(-1)}${twice}`);
}

function row(name: string, median?: number, worst?: number): string {
  return `  ${name.padEnd(52)}${String(median).padStart(8)}${String(worst).padStart(8)}`;
}

/** Emulated machines, and twenty containers on two cores, need longer than real hosts to prove themselves. */
const CONFIRM_TIMEOUT_S = 900;
/**
 * Milliseconds; emulated machines miss hellos every 100 ms all the time. Before a restart on purpose the peers are told to wait for ten
 * times three of these: an emulated switch is back after 40 s, where a real one takes half a second.
 */
const EMULATED_INTERVAL = 2000;

/**
 * Twice a minute a gateway asks whether another one is still where it was, and is answered by the switch. Without an answer for three
 * seconds it sends that one nothing more: a real switch is never away for as long, an emulated one for ten seconds and more.
 */
const PATIENT_NEIGHBOURS = `ip netns exec mobula sysctl -q net.ipv4.neigh.${LINK.switch}.ucast_solicit=100`;

function hostsOf(names: readonly string[]): HostOptions[] {
  return names.map((name, index) => ({ name, address: `198.51.100.${index + 2}`, suite: "trixie" }));
}

async function push(lab: Lab, vars: Readonly<Record<string, unknown>> = {}): Promise<void> {
  await writeInventory(lab, { vars: { mobula_access: "none", ...vars } });
  const program = await executable("compiled");
  const options = ["--no-reboot", "--confirm-timeout", String(CONFIRM_TIMEOUT_S)];
  expectCode(
    await mobula(lab, { executable: program, timeoutMs: 900_000 }, "push", ...options),
    0,
    "the push",
  );
}

/** How long vswitchd is watched while nothing happens, seconds. */
const REST = 20;
/** Ticks of a second in /proc (proc(5), USER_HZ). */
const TICKS = 100;

/** Share of one core that ovs-vswitchd takes on each host while nobody sends anything, percent; the median host. */
async function idleShare(lab: Lab, names: readonly string[]): Promise<number> {
  const ticks = async (name: string) => {
    const { vswitchd } = await mainPids(lab, name);
    const fields = (await ask(lab, name, ["cat", `/proc/${vswitchd}/stat`])).split(") ")[1]!.split(" ");
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = await Promise.all(names.map(ticks));
  const began = performance.now();
  await pause(REST * 1000);
  const after = await Promise.all(names.map(ticks));
  const seconds = (performance.now() - began) / 1000;
  const shares = after.map((now, index) => (now - before[index]!) / TICKS / seconds * 100).sort((a, b) =>
    a - b
  );
  return shares[Math.floor(shares.length / 2)] ?? NaN;
}

/** So many switches in userspace are all that two cores carry with hellos every 100 ms; more of them say it less often, milliseconds. */
const MANY = { hosts: 6, interval: 1000 } as const;
/** Milliseconds; what hosts of such fleets have unless told. */
const USUAL_INTERVAL = 100;

async function measureFleet(size: number): Promise<string> {
  const names = Array.from({ length: size }, (_, index) => `host-${index + 1}`);
  const interval = size > MANY.hosts ? MANY.interval : USUAL_INTERVAL;
  const vars = { mobula_bfd_interval: interval };
  return await withLab("failover", hostsOf(names), async (lab) => {
    await push(lab, vars);
    await waitForPaths(lab, names, 120_000);
    const idle = await idleShare(lab, names);
    if (size > 12) {
      return `${size} hosts: vswitchd at rest ${idle.toFixed(1)} % of a core, hellos every ${interval} ms`;
    }
    await waitForUse(lab, names, 120_000);
    const direct = await pathStretch(lab, names);
    await push(lab, { ...vars, mobula_switching: "tree" });
    await pause(AFTERMATH);
    const tree = await pathStretch(lab, names);
    const straight = direct.indirect.length === 0
      ? "all of them direct"
      : `not ${direct.indirect.join(", ")}`;
    return `${size} hosts: path stretch ${direct.hops.toFixed(2)}, ${straight}, by the tree ${
      tree.hops.toFixed(2)
    }; ` +
      `vswitchd at rest ${idle.toFixed(1)} % of a core, hellos every ${interval} ms`;
  });
}

/** Measures everything and prints it. */
export async function benchFailover(options: FailoverOptions): Promise<void> {
  const { rounds, outages, only, machines, hosts } = options;
  await ensurePackages(machines ? [...MACHINE_PACKAGES, ...VM_PACKAGES] : MACHINE_PACKAGES);
  if (rounds > 0) {
    const three = hostsOf(THREE).map((host) => ({
      ...host,
      kind: machines ? "machine" as const : "container" as const,
    }));
    await withLab("failover", three, async (lab) => {
      await push(lab, machines ? { mobula_bfd_interval: EMULATED_INTERVAL } : {});
      if (machines) await Promise.all(THREE.map((name) => ask(lab, name, ["sh", "-c", PATIENT_NEIGHBOURS])));
      await measureCases(lab, rounds, only);
    });
  }
  if (outages > 0) {
    await withLab("failover", hostsOf(HALVES.flat()), async (lab) => {
      await push(lab);
      if (THIN_TITLE.includes(only)) await measureThinPath(lab, HALVES.flat(), outages);
      await measureOutages(lab, HALVES, outages, only);
    });
  }
  for (const size of hosts) console.log(await measureFleet(size));
}

function parseNumber(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected a whole number.");
}

/** Reads the arguments behind `failover` and does it; gives the exit code. */
export async function failoverCommand(args: readonly string[]): Promise<number> {
  const program = new Command("failover").description(
    "what it costs when something of the access network dies",
  )
    .option("--rounds <n>", "try each case so many times; 0: none", parseNumber, 20)
    .option("--outages <n>", "try each of the long cases so many times; 0: none", parseNumber, 3)
    .option("--only <words>", "only cases whose title holds these words", "")
    .option("--machines", "the short cases in virtual machines, with the kernel's datapath", false)
    .option("--hosts <n...>", "sizes of fleets whose path stretch and idle switches are measured", [
      "3",
      "6",
      "12",
      "24",
    ])
    .parse([...args], { from: "user" });
  const { hosts, ...options } = program.opts();
  await benchFailover({ ...options, hosts: hosts.map(parseNumber).filter((size) => size > 1) });
  return 0;
}
