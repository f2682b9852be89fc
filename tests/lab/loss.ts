/**
 * What a change costs: pings every 10 ms between all hosts on both networks while something goes on, and how many had no answer.
 * Starts `fping` in the networks of the lab's hosts; writes logs into the lab's directory.
 */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { fping, parseFping } from "./fping.ts";
import type { Lab, LabHost, Place } from "./lab.ts";
import { isAlive, type ProcessRecord, start } from "./process.ts";
import { WORLD } from "./underlay.ts";
import { waitFor } from "./wait.ts";

/** Milliseconds between two probes of a pair. */
export const INTERVAL = 10;

/** The way a probe takes; `control` is the bare underlay, without anything of mobula: what is lost there, the machine has lost. */
export type Way = "access" | "gateway" | "intrawire" | "control";

/** What became of the probes between two places. */
export interface Loss {
  readonly way: Way;
  readonly from: string;
  readonly to: string;
  readonly sent: number;
  readonly lost: number;
  /** The most probes without an answer in a row. */
  readonly longestRun: number;
  /** Milliseconds between the two answers around that run; 0 where nothing is lost. */
  readonly longestGap: number;
  /** Milliseconds between two answers that came one after the other, at most, whether any is missing or not. */
  readonly longestWait: number;
}

interface Probe extends Pick<Loss, "way" | "from" | "to"> {
  readonly place: Place;
  readonly address: string;
}

interface Running extends Probe {
  readonly prober: Prober;
}

/** All probes that leave from one place. */
interface Prober {
  readonly process: ProcessRecord;
  readonly log: string;
}

/** Probes all pairs of these hosts while the work goes on. */
export async function lossDuring<T>(
  lab: Lab,
  hosts: readonly LabHost[],
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly losses: readonly Loss[] }> {
  const places = Map.groupBy(probesOf(lab, hosts), ({ from }) => from);
  const running = (await Promise.all([...places.values()].map((probes) => startProbes(lab, probes)))).flat();
  const probers = [...new Set(running.map(({ prober }) => prober))];
  try {
    for (const probe of running) await awaitAnswers(probe, 5);
    const result = await work();
    for (const probe of running) await awaitAnswers(probe, lastAnswer(probe) + 20);
    await endAll(probers);
    return { result, losses: running.map(lossOf) };
  } finally {
    await endAll(probers);
    for (const { log } of probers) await Deno.remove(log);
  }
}

function probesOf(lab: Lab, hosts: readonly LabHost[]): Probe[] {
  const pairs = hosts.flatMap((from, index) => hosts.slice(index + 1).map((to) => [from, to] as const));
  return [
    { way: "control", from: "deployer", to: "world", place: lab.deployer, address: WORLD },
    ...pairs.flatMap(([from, to]) => {
      const { access, gateway, intrawire } = hostAddresses(to.id);
      const probe = (way: Way, address: string): Probe => ({
        ...{ way, from: from.name, to: to.name, address },
        place: lab.network(from.name),
      });
      return [probe("access", access), probe("gateway", gateway), probe("intrawire", intrawire)];
    }),
  ];
}

async function startProbes(lab: Lab, probes: readonly Probe[]): Promise<Running[]> {
  const log = `${lab.directory}/probe-${crypto.randomUUID()}.log`;
  const addresses = probes.map(({ address }) => address);
  const argv = fping(addresses, { interval: INTERVAL });
  const process = await start(probes[0]!.place.enter(argv), { cgroup: lab.state.cgroup, log });
  const prober: Prober = { process, log };
  return probes.map((probe) => ({ ...probe, prober }));
}

/** Number of the probe, from 1 → seconds since 1970 at which its answer came. */
function answers({ prober, address }: Running): Map<number, number> {
  const all = parseFping(Deno.readTextFileSync(prober.log));
  return new Map(all.filter((one) => one.address === address).map(({ number, time }) => [number, time]));
}

function lastAnswer(probe: Running): number {
  return Math.max(0, ...answers(probe).keys());
}

async function awaitAnswers(probe: Running, wanted: number): Promise<void> {
  const what = `answer ${wanted} of ${probe.address} (${probe.way}) to ${probe.from}`;
  await waitFor(what, () => lastAnswer(probe) >= wanted, { deadlineMs: 60_000 });
}

async function endAll(probers: readonly Prober[]): Promise<void> {
  for (const { process } of probers) if (isAlive(process)) Deno.kill(process.pid, "SIGINT");
  await waitFor("fping to end", () => probers.every(({ process }) => !isAlive(process)), { intervalMs: 20 });
}

function lossOf(probe: Running): Loss {
  const { way, from, to } = probe;
  return { way, from, to, ...countLoss(answers(probe)) };
}

/** Answers by number, with their times in seconds → what is missing up to the last answer. */
export function countLoss(
  seen: ReadonlyMap<number, number>,
): Pick<Loss, "sent" | "lost" | "longestRun" | "longestGap" | "longestWait"> {
  const numbers = [...seen.keys()].sort((a, b) => a - b);
  let [lost, longestRun, longestGap] = [0, 0, 0];
  for (const [index, number] of numbers.entries()) {
    const before = numbers[index - 1] ?? 0;
    const missing = number - before - 1;
    lost += missing;
    longestRun = Math.max(longestRun, missing);
    if (missing === 0 || before === 0) continue;
    longestGap = Math.max(longestGap, Math.round((seen.get(number)! - seen.get(before)!) * 1000));
  }
  const times = [...seen.values()].sort((a, b) => a - b);
  const waits = times.slice(1).map((time, index) => time - times[index]!);
  const longestWait = Math.round(Math.max(0, ...waits) * 1000);
  return { sent: numbers.at(-1) ?? 0, lost, longestRun, longestGap, longestWait };
}

/** The pairs of the networks, without the control. */
export function innerLosses(losses: readonly Loss[]): readonly Loss[] {
  return losses.filter(({ way }) => way !== "control");
}

/** One line for each pair that lost anything. */
export function renderLosses(losses: readonly Loss[]): string[] {
  return losses.filter(({ lost }) => lost > 0).map(({ way, from, to, sent, lost, longestRun, longestGap }) =>
    `${way} ${from} - ${to}: ${lost} of ${sent} lost, ${longestRun} in a row (${longestGap} ms)`
  );
}

/** Milliseconds: what new keys may cost any pair where nothing else is at work. */
const ROTATION_LIMIT = 200;

/** Milliseconds: a machine that stands still for longer may miss so many hellos that paths are taken for dead (BFD, 3 of 100 ms). */
const STANDSTILL = 150;
/** Milliseconds until paths that have died of it carry again. */
const RETURN = 2000;

/** Milliseconds for which a path may be silent where the control was for so long: none, unless paths may have died of it. */
export function excusedSilence(still: number): number {
  return still >= STANDSTILL ? still + RETURN : 0;
}

/** Nothing is lost, unless the control, which nothing of mobula carries, tells that it was the machine. */
export function expectNoLoss(losses: readonly Loss[]): void {
  const control = losses.filter(({ way }) => way === "control");
  const still = Math.max(0, ...control.map(({ longestWait }) => longestWait));
  const allowed = excusedSilence(still);
  if (allowed > 0) console.log(`the machine stood still for ${still} ms: paths may have died of it`);
  assertEquals(
    renderLosses(innerLosses(losses).filter((loss) => silenceOf(loss) > allowed)),
    [],
    `control: nothing for ${still} ms; ${renderLosses(losses).join() || "nothing lost"}`,
  );
}

/** Milliseconds from the answer before the longest run to the one after it, as the probes were meant to be sent. */
export function silenceOf({ longestRun }: Pick<Loss, "longestRun">): number {
  return longestRun === 0 ? 0 : (longestRun + 1) * INTERVAL;
}

/** Counted in probes, because a busy machine sends them late but does not lose them; the longest one is printed. */
export function expectShortGap(losses: readonly Loss[], limit = ROTATION_LIMIT): void {
  const longest = innerLosses(losses).reduce((a, b) => b.longestRun > a.longestRun ? b : a);
  console.log(renderLosses([longest]).join() || "nothing lost");
  const long = innerLosses(losses).filter((loss) => silenceOf(loss) > limit);
  assertEquals(renderLosses(long), [], renderLosses(losses).join("\n"));
}
