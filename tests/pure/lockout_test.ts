/**
 * A push must never lock anyone out of a host: whatever fails, is killed or loses its power at whatever call, the host ends at what was
 * confirmed last or at its own network, and the next push works. Actions of lib/host on a stand-in of a host.
 */
import { assert } from "@std/assert";
import { bench, everyCall, expectSound, isChange, NAMES, NETWORK, OVER, strikeAt } from "../fake/bench.ts";
import type { PushChanges } from "../fake/deployer.ts";
import { type Fate, stateOf } from "../fake_host.ts";

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
  { name: "update of names", before: {}, push: NAMES, fallback: "generation 1" },
  { name: "update of the network and the key", before: {}, push: NETWORK, fallback: "generation 1" },
  { name: "reinstallation", before: {}, push: { ...NETWORK, reinstall: true }, fallback: "generation 1" },
];

/** Pushes with a strike at one call; gives what was struck, undefined where there is no such call. */
async function pushStruck(scenario: Scenario, number: number, fate: Fate): Promise<string | undefined> {
  let struck: string | undefined;
  await bench(scenario.before, async (bench) => {
    const { host, time, deployer } = bench;
    const strike = strikeAt(host, { number, fate, counts: fate === "fail" ? () => true : isChange });
    const failed = await deployer.push(scenario.push).then(() => false, () => true);
    struck = strike.what;
    await time.pause(OVER * 1000);
    await host.settled();
    delete host.fate;
    const done = `generation ${scenario.before ? 2 : 1}`;
    // What was killed after the last word of the confirmation has been confirmed.
    const confirmed = stateOf(host)?.status === "installed" ? [done] : [];
    await expectSound(bench, failed ? [scenario.fallback, ...confirmed] : [done], `${struck}`);
  });
  return struck;
}

for (const scenario of SCENARIOS) {
  for (const fate of ["fail", "kill", "power cut"] as const) {
    Deno.test(`push, ${scenario.name}: ${fate} at each call, nobody is locked out`, async () => {
      const calls = await everyCall((number) => pushStruck(scenario, number, fate));
      assert(calls > 15, `${calls} calls; expected all of a push`);
    });
  }
}
