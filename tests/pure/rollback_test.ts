/**
 * The rollback itself, struck at each of its calls: by its timer or at a boot it is begun again until the host stands where it belongs.
 * Actions of lib/host on a stand-in of a host.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { ACTIVATION_FILE, ARMED_FILE } from "../../lib/host/paths.ts";
import { activate } from "../../lib/host/activate.ts";
import { uninstall } from "../../lib/host/uninstall.ts";
import { MAIN_UNIT, ROLLBACK_UNIT } from "../../lib/render/units.ts";
import {
  type Bench,
  bench,
  everyCall,
  expectSound,
  isChange,
  NAMES,
  NETWORK,
  OVER,
  strikeAt,
} from "../fake/bench.ts";
import type { PushChanges } from "../fake/deployer.ts";
import { activationOf, type Call, type Fate, stateOf } from "../fake_host.ts";

/** What is armed, how its rollback begins, and where it leads. */
interface Scenario {
  readonly name: string;
  readonly before?: PushChanges;
  readonly arm: (bench: Bench) => Promise<unknown>;
  readonly begin: (bench: Bench) => Promise<void>;
  readonly end: string;
}

const timeOut = ({ time }: Bench) => time.pause(OVER * 1000);
const reboot = ({ host }: Bench) => host.reboot();

const SCENARIOS: readonly Scenario[] = [
  {
    name: "time is over, to the baseline",
    arm: ({ deployer }) => deployer.activated(),
    begin: timeOut,
    end: "baseline",
  },
  {
    name: "time is over, to a generation",
    before: {},
    arm: ({ deployer }) => deployer.activated(NETWORK),
    begin: timeOut,
    end: "generation 1",
  },
  {
    name: "reboot, to the baseline",
    arm: ({ deployer }) => deployer.activated(),
    begin: reboot,
    end: "baseline",
  },
  {
    name: "reboot, to a generation",
    before: {},
    arm: ({ deployer }) => deployer.activated(NETWORK),
    begin: reboot,
    end: "generation 1",
  },
  { name: "uninstallation", before: {}, arm: uninstalled, begin: timeOut, end: "baseline" },
];

function uninstalled({ deployer }: Bench) {
  return deployer.call("uninstall", (context) => uninstall({}, context), deployer.connect());
}

/** What is still there of mobula. */
function traces({ host }: Bench): string[] {
  return [...host.files.keys(), ...host.links.keys()].filter((path) => path.includes("mobula"));
}

async function rollBackStruck(scenario: Scenario, number: number, fate: Fate): Promise<string | undefined> {
  let struck: string | undefined;
  await bench(scenario.before, async (bench) => {
    const { host, time } = bench;
    await scenario.arm(bench);
    const strike = strikeAt(host, { number, fate, counts: countedFor(scenario, fate) });
    await scenario.begin(bench);
    await time.pause(OVER * 1000);
    await host.settled();
    struck = strike.what;
    delete host.fate;
    assertEquals(await host.standing(), scenario.end, struck);
    assertEquals(host.files.has(ARMED_FILE), false, struck);
    await expectSound(bench, [scenario.end], `${struck}`);
  });
  return struck;
}

/** At a boot, once the timer that begins it again is started. */
function countedFor({ begin }: Scenario, fate: Fate): (call: Call) => boolean {
  let begun = begin !== reboot;
  return (call) => {
    if (call.process !== ROLLBACK_UNIT) return false;
    const counts = begun && (fate === "fail" || isChange(call));
    begun ||= call.what.startsWith("systemd-run ");
    return counts;
  };
}

for (const scenario of SCENARIOS) {
  for (const fate of ["fail", "kill", "power cut"] as const) {
    Deno.test(`rollback, ${scenario.name}: ${fate} at each call, it comes to its end`, async () => {
      const calls = await everyCall((number) => rollBackStruck(scenario, number, fate));
      assert(calls > 10, `${calls} calls; expected all of a rollback`);
    });
  }
}

Deno.test("uninstall: nothing of mobula is left, and the host can be installed again", async () => {
  await bench({}, async (bench) => {
    await uninstalled(bench);
    await timeOut(bench);
    assertEquals([traces(bench), await bench.host.standing()], [[], "baseline"]);
    await bench.deployer.push();
    assertEquals(await bench.host.standing(), "generation 1");
  });
});

Deno.test("rollback: the host says why, and a rollback to a generation leaves it installed", async () => {
  const why = ({ host }: Bench) => host.json<{ error: string }>(ACTIVATION_FILE)!.error;
  await bench({}, async (bench) => {
    await bench.deployer.activated(NAMES);
    assertEquals([await bench.host.standing(), stateOf(bench.host)?.generation], ["generation 2", 1]);
    await timeOut(bench);
    assertEquals(activationOf(bench.host), "rolledback");
    assertMatch(why(bench), /^nobody confirmed it within 120 s, so the host went back to generation 1$/);
    assertEquals([stateOf(bench.host)?.status, stateOf(bench.host)?.generation], ["installed", 1]);
    await bench.deployer.activated(NAMES);
    await bench.host.reboot();
    assertEquals([await bench.host.standing(), activationOf(bench.host)], ["generation 1", "done"]);
  });
});

Deno.test("rollback: an activation that is killed is rolled back at once, not when its time is over", async () => {
  await bench(undefined, async (bench) => {
    const { host, deployer, time } = bench;
    const connection = deployer.connect();
    const generation = await deployer.staged({}, connection);
    host.fate = ({ process, what }) => process === MAIN_UNIT && what.includes("networkd") ? "kill" : "done";
    await deployer.call("activate", (context) => activate({ generation }, context), connection);
    const began = time.now();
    await host.settled();
    host.fate = undefined;
    assert(time.now() - began < 60_000, `${time.now() - began} ms`);
    assertMatch(
      host.json<{ error: string }>(ACTIVATION_FILE)!.error,
      /^what configured the network was killed, so/,
    );
    await expectSound(bench, ["baseline"], "killed");
  });
});

Deno.test("rollback: an uninstallation that is asked for at any moment of it is carried out", async () => {
  for (const before of [undefined, {}]) {
    const calls = await everyCall(async (number) => {
      let during: string | undefined;
      await bench(before, async (bench) => {
        await bench.deployer.activated(NAMES);
        let asked: Promise<unknown> | undefined;
        let seen = 0;
        bench.host.fate = (call) => {
          if (call.process === ROLLBACK_UNIT && during === undefined && seen++ === number) {
            during = call.what;
            asked = uninstalled(bench);
          }
          return "done";
        };
        await bench.time.pause(OVER * 1000);
        await asked;
        await bench.time.pause(OVER * 1000);
        if (during === undefined) return;
        assertEquals([traces(bench), await bench.host.standing()], [[], "baseline"], `asked at ${during}`);
      });
      return during;
    });
    assert(calls > 20, `${calls} calls`);
  }
});
