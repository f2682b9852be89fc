/**
 * A stand-in of a host with somebody who pushes to it, and strikes at its calls. In memory only.
 */
import { assert, assertEquals } from "@std/assert";
import type { Armed } from "../../lib/host/armed.ts";
import { ARMED_FILE } from "../../lib/host/paths.ts";
import { type Call, FakeHost, type FakeHostOptions, type Fate, stateOf } from "../fake_host.ts";
import { baselineOf } from "../net/fixtures.ts";
import { ADDRESS, Deployer, type PushChanges } from "./deployer.ts";
import { VirtualTime } from "./virtual_time.ts";

/** A host and who pushes to it. */
export interface Bench {
  readonly time: VirtualTime;
  readonly host: FakeHost;
  readonly deployer: Deployer;
}

/** Seconds in which a host that nobody confirms has rolled back, with a margin for what it waits for on the way. */
export const OVER = 200;

/** Another configuration: only names differ. */
export const NAMES: PushChanges = {
  fleet: { extraHosts: [{ address: "10.31.200.1", hostname: "printer.example" }] },
};

/** Another configuration: links, peers and the key differ. */
export const NETWORK: PushChanges = { keys: "rotate", fleet: { underlayMtu: 1400 } };

/** Runs a test on a new host, in its own time; `before` is pushed and confirmed first. */
export async function bench(
  before: PushChanges | undefined,
  use: (bench: Bench) => Promise<void>,
  options: Partial<FakeHostOptions> = {},
): Promise<void> {
  const time = new VirtualTime();
  const host = new FakeHost(time, { baseline: baselineOf(ADDRESS), ...options });
  const deployer = new Deployer(host, time);
  const run = async () => {
    if (before) await deployer.push(before);
    await use({ time, host, deployer });
  };
  await time.drive(run());
}

/** Whether a call changes something: a process that is killed before a look is as one that is killed before its next change. */
export function isChange({ what }: Call): boolean {
  return !/^(read|sh -s|readlink|ls|wg show|dpkg-query|sync|udevadm|unshare|dnsmasq) ?/.test(what);
}

/** Meets one of the calls that count, by its number. */
export function strikeAt(
  host: FakeHost,
  { number, fate, counts }: { number: number; fate: Fate; counts: (call: Call) => boolean },
): { readonly what: string | undefined } {
  const struck = { what: undefined as string | undefined };
  let seen = 0;
  host.fate = (call) => {
    if (struck.what !== undefined || !counts(call) || seen++ !== number) return "done";
    struck.what = `${fate} at ${call.process}: ${call.what}`;
    return fate;
  };
  return struck;
}

/** Calls `attempt` with the number of each call to strike at, until it says that there is no such call; gives how many there are. */
export async function everyCall(attempt: (number: number) => Promise<string | undefined>): Promise<number> {
  for (let number = 0;; number++) {
    if (await attempt(number) === undefined) return number;
  }
}

/** The host is where it should be, nothing is armed, the files tell the truth, and the next push is done and outlives a boot. */
export async function expectSound(bench: Bench, standings: readonly string[], told: string): Promise<void> {
  const { time, host, deployer } = bench;
  const standing = await host.standing();
  assert(standings.includes(standing), `${told}: ${standing}; expected ${standings.join(" or ")}`);
  // Killed between the note of what is armed and the start of the timer: by then nothing was changed.
  const armed = host.json<Armed>(ARMED_FILE);
  assert(!armed || host.timerRuns, `${told}: armed, and nothing will ever end that`);
  if (armed) assertEquals(standing, armed.previous > 0 ? `generation ${armed.previous}` : "baseline", told);
  const state = stateOf(host);
  if (state?.status === "installed") assertEquals(standing, `generation ${state.generation}`, told);
  await deployer.push({ reinstall: state?.status === "installing" });
  await time.pause(OVER * 1000);
  assertEquals(await host.standing(), `generation ${stateOf(host)?.generation}`, `${told}, pushed again`);
  await host.reboot();
  assertEquals(await host.standing(), `generation ${stateOf(host)?.generation}`, `${told}, booted`);
  assertEquals([stateOf(host)?.status, host.files.has(ARMED_FILE)], ["installed", false], told);
}
