/**
 * Confirmations, more time, and two who change one host at once. Actions of lib/host on a stand-in of a host.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { activate } from "../../lib/host/activate.ts";
import { extend } from "../../lib/host/armed.ts";
import { confirm } from "../../lib/host/confirm.ts";
import { ARMED_FILE } from "../../lib/host/paths.ts";
import { uninstall } from "../../lib/host/uninstall.ts";
import { ROLLBACK_UNIT } from "../../lib/render/units.ts";
import { type Bench, bench, everyCall, expectSound, NAMES, NETWORK, OVER } from "../fake/bench.ts";
import { type Call, stateOf } from "../fake_host.ts";

function confirmOver({ deployer }: Bench, generation: number, connection?: string) {
  const over = connection ?? deployer.connect();
  return deployer.call("confirm", (context) => confirm({ generation }, context), over);
}

function moreTime({ deployer }: Bench, seconds: number): Promise<boolean> {
  return deployer.call("extend", (context) => extend(seconds, context), deployer.connect());
}

const isArmed = ({ host }: Bench) => host.files.has(ARMED_FILE);

Deno.test("confirm: refused over the connection that activated it, accepted over a new one", async () => {
  await bench({}, async (bench) => {
    const connection = bench.deployer.connect();
    const generation = await bench.deployer.staged(NAMES, connection);
    await bench.deployer.call("activate", (context) => activate({ generation }, context), connection);
    const same = () => confirmOver(bench, generation, connection);
    await assertRejects(
      same,
      HostError,
      `Cannot confirm generation 2 over the SSH connection that activated it`,
    );
    assertEquals([isArmed(bench), stateOf(bench.host)?.generation], [true, 1]);
    await confirmOver(bench, generation);
    assertEquals([isArmed(bench), stateOf(bench.host)?.generation], [false, 2]);
    await bench.time.pause(OVER * 1000);
    await expectSound(bench, ["generation 2"], "confirmed");
  });
});

Deno.test("confirm: refused once the host has rolled back, and before anything was activated", async () => {
  await bench({}, async (bench) => {
    const generation = await bench.deployer.activated(NAMES);
    await bench.time.pause(OVER * 1000);
    await assertRejects(() => confirmOver(bench, generation), HostError, "Cannot confirm generation 2");
    await expectSound(bench, ["generation 1"], "rolled back");
  });
  await bench(undefined, async (bench) => {
    await assertRejects(() => confirmOver(bench, 1), HostError, "no current generation");
  });
});

Deno.test("confirm: at each moment of a rollback, it is either too late or in time", async () => {
  const ends = new Set<string>();
  const calls = await everyCall(async (number) => {
    let during: string | undefined;
    await bench({}, async (bench) => {
      const generation = await bench.deployer.activated(NETWORK);
      let confirmed: Promise<boolean> | undefined;
      let seen = 0;
      bench.host.fate = (call) => {
        if (call.process === ROLLBACK_UNIT && seen++ === number) {
          during = call.what;
          confirmed = confirmOver(bench, generation).then(() => true, () => false);
        }
        return "done";
      };
      await bench.time.pause(OVER * 1000);
      const end = await confirmed ? "generation 2" : "generation 1";
      ends.add(end);
      assertEquals([await bench.host.standing(), isArmed(bench)], [end, false], `confirmed at ${during}`);
      await expectSound(bench, [end], `confirmed at ${during}`);
    });
    return during;
  });
  assert(calls > 20, `${calls} calls`);
  assertEquals([...ends].sort(), ["generation 1", "generation 2"]);
});

Deno.test("extend: at each moment of a confirmation, what is confirmed is not armed again", async () => {
  const calls = await everyCall(async (number) => {
    let during: string | undefined;
    await bench({}, async (bench) => {
      const generation = await bench.deployer.activated(NAMES);
      let extended: Promise<boolean> | undefined;
      let seen = 0;
      bench.host.fate = (call: Call) => {
        if (call.process === "confirm" && seen++ === number) {
          during = call.what;
          extended = moreTime(bench, 120);
        }
        return "done";
      };
      await confirmOver(bench, generation);
      await extended;
      assertEquals(isArmed(bench), false, during);
      await bench.time.pause(OVER * 1000);
      assertEquals(await bench.host.standing(), "generation 2", during);
    });
    return during;
  });
  assert(calls > 10, `${calls} calls`);
});

Deno.test("extend: gives an armed host more time, and no other", async () => {
  await bench({}, async (bench) => {
    assertEquals(await moreTime(bench, 120), false);
    await bench.deployer.activated(NAMES);
    await bench.time.pause(100_000);
    assertEquals(await moreTime(bench, 120), true);
    await bench.time.pause(100_000);
    assertEquals([isArmed(bench), await bench.host.standing()], [true, "generation 2"]);
    await bench.time.pause(60_000);
    assertEquals([isArmed(bench), await bench.host.standing()], [false, "generation 1"]);
    const { deployer } = bench;
    await deployer.call("uninstall", (context) => uninstall({}, context), deployer.connect());
    assertEquals(await moreTime(bench, 120), false);
  });
});

Deno.test("extend: starts the timer anew only when a tenth of the time has passed", async () => {
  await bench({}, async (bench) => {
    await bench.deployer.activated(NAMES);
    const timers: string[] = [];
    bench.host.fate = ({ what }) => {
      if (what.includes("arm-rollback")) timers.push(what);
      return "done";
    };
    for (const [passed, count] of [[1, 0], [10, 0], [2, 1], [1, 1], [100, 2]] as const) {
      await bench.time.pause(passed * 1000);
      assertEquals(await moreTime(bench, 120), true);
      assertEquals(timers.length, count, `after ${passed} s`);
    }
    assertEquals(await moreTime(bench, 60), true);
    assertEquals(timers.length, 3, "another time than before");
  });
});

Deno.test("rollback: a process that holds the lock for too long does not stop it", async () => {
  await bench({}, async (bench) => {
    await bench.deployer.activated(NAMES);
    const stuck = bench.host.process("stuck", ({ locks, clock }) => locks.locked(() => clock.pause(1e9)));
    const killed = assertRejects(() => stuck, Error, "stuck");
    await bench.time.pause(OVER * 1000);
    await killed;
    await expectSound(bench, ["generation 1"], "in spite of a process that is stuck");
  });
});

Deno.test("two pushes that begin together leave one confirmed generation", async () => {
  await bench({}, async (bench) => {
    const { deployer, time, host } = bench;
    const ends = await Promise.allSettled([deployer.push(NAMES), deployer.push(NETWORK)]);
    assert(ends.some(({ status }) => status === "fulfilled"), JSON.stringify(ends));
    await time.pause(OVER * 1000);
    await expectSound(bench, [`generation ${stateOf(host)?.generation}`], "two pushes");
  });
});
