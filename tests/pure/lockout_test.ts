/**
 * The host must never be locked out: whatever fails, is killed or loses its power at whatever call, it ends at what was confirmed last or
 * at its own network, and the next push works. Actions of lib/host on a stand-in of a host.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Armed } from "../../lib/host/armed.ts";
import { ARMED_FILE } from "../../lib/host/paths.ts";
import { Deployer, type PushChanges } from "../fake/deployer.ts";
import { VirtualTime } from "../fake/virtual_time.ts";
import { type Call, FakeHost, type Fate, stateOf } from "../fake_host.ts";
import { ADDRESS } from "../fake/deployer.ts";
import { baselineOf } from "../net/fixtures.ts";

/** A host and who pushes to it. */
interface Bench {
  readonly time: VirtualTime;
  readonly host: FakeHost;
  readonly deployer: Deployer;
}

/** What was confirmed before, and what is pushed then. */
interface Scenario {
  readonly name: string;
  readonly before?: PushChanges;
  readonly push: PushChanges;
  /** Where the host stands if the push comes to nothing. */
  readonly fallback: string;
}

const SCENARIOS: readonly Scenario[] = [
  { name: "first installation", push: {}, fallback: "baseline" },
  {
    name: "update of names",
    before: {},
    push: { fleet: { extraHosts: [{ address: "10.31.200.1", hostname: "printer.example" }] } },
    fallback: "generation 1",
  },
  {
    name: "update of the network and the key",
    before: {},
    push: { keys: "rotate", fleet: { underlayMtu: 1400 } },
    fallback: "generation 1",
  },
];

/** Seconds in which a host that nobody confirms goes back, with a margin for what it waits for on the way. */
const OVER = 200;

async function bench(scenario: Scenario, use: (bench: Bench) => Promise<void>): Promise<void> {
  const time = new VirtualTime();
  const host = new FakeHost(time, { baseline: baselineOf(ADDRESS) });
  const deployer = new Deployer(host, time);
  const run = async () => {
    if (scenario.before) await deployer.push(scenario.before);
    await use({ time, host, deployer });
  };
  await time.drive(run());
}

/** Whether a call changes something: a process that is killed before a look is as one that is killed before its next change. */
function isChange({ what }: Call): boolean {
  return !/^(read|sh -s|readlink|ls|wg show|dpkg-query|sync|udevadm|unshare|dnsmasq) ?/.test(what);
}

/** Meets one call of those that count, by its number. */
function strikeAt(host: FakeHost, number: number, fate: Fate, counts: (call: Call) => boolean = () => true) {
  const struck = { what: undefined as string | undefined };
  let seen = 0;
  host.fate = (call) => {
    if (struck.what !== undefined || !counts(call) || seen++ !== number) return "done";
    struck.what = `${call.process}: ${call.what}`;
    return fate;
  };
  return struck;
}

/** Nothing is armed, the files tell the truth, and the next push is done. */
async function expectSound({ time, host, deployer }: Bench, standings: readonly string[], told: string) {
  const standing = await host.standing();
  assert(standings.includes(standing), `${told}: ${standing}; expected ${standings.join(" or ")}`);
  // Killed between the note of what is armed and the start of the timer: by then nothing was changed.
  const armed = host.json<Armed>(ARMED_FILE);
  if (armed) assertEquals(standing, armed.previous > 0 ? `generation ${armed.previous}` : "baseline", told);
  const state = stateOf(host);
  if (state?.status === "installed") assertEquals(standing, `generation ${state.generation}`, told);
  await deployer.push({ reinstall: state?.status === "installing" });
  await time.pause(OVER * 1000);
  assertEquals(await host.standing(), `generation ${stateOf(host)?.generation}`, `${told}, pushed again`);
  assertEquals([stateOf(host)?.status, host.files.has(ARMED_FILE)], ["installed", false], told);
}

/** Strikes at each call of a push in turn; gives how many there were. */
async function strikeEverywhere(scenario: Scenario, fate: Fate): Promise<number> {
  const counts = fate === "fail" ? undefined : isChange;
  for (let number = 0;; number++) {
    let struck: string | undefined;
    await bench(scenario, async (bench) => {
      const strike = strikeAt(bench.host, number, fate, counts);
      const failed = await bench.deployer.push(scenario.push).then(() => false, () => true);
      struck = strike.what;
      await bench.time.pause(OVER * 1000);
      await bench.host.settled();
      delete bench.host.fate;
      const done = `generation ${scenario.before ? 2 : 1}`;
      // What was killed after the last word of the confirmation has been confirmed.
      const confirmed = stateOf(bench.host)?.status === "installed" ? [done] : [];
      const standings = failed ? [scenario.fallback, ...confirmed] : [done];
      await expectSound(bench, standings, `${fate} at ${struck}`);
    });
    if (struck === undefined) return number;
  }
}

for (const scenario of SCENARIOS) {
  for (const fate of ["fail", "kill", "power cut"] as const) {
    Deno.test(`${scenario.name}: ${fate} at each call, nobody is locked out`, async () => {
      const calls = await strikeEverywhere(scenario, fate);
      assert(calls > 15, `${calls} calls; expected all of a push`);
    });
  }
}
