/**
 * The access network's direct paths: one hop for every pair, another way in less than half a second when a path dies, and the plain
 * tree when all flows are lost. Three hosts; what is counted is asserted, times are printed. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import { LINK } from "../../../lib/net/network.ts";
import { type Broadcasts, whileBroadcasting } from "../broadcasts.ts";
import { capture } from "../capture.ts";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab } from "../lab.ts";
import { excusedSilence } from "../loss.ts";
import { unreached, waitForAnswers } from "../probes.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { ask, mainPids } from "../snapshot.ts";
import { watchStarvation } from "../starvation.ts";
import {
  type Answers,
  cutHosts,
  cutPaths,
  type Direction,
  during,
  type Flow,
  learned,
  livePorts,
  mendPaths,
  ofctl,
  pathUse,
  rootHost,
  startFlow,
  vsctl,
  waitForDeadPath,
  waitForHealed,
  waitForPaths,
  waitForStretch,
  waitForUse,
  watchRestart,
} from "../switching.ts";
import { WORLD } from "../underlay.ts";
import { pause, waitFor } from "../wait.ts";
import { TRIO } from "../trio.ts";

const NAMES = TRIO.map(({ name }) => name);

interface Pushed {
  readonly program: string;
}

const { proof } = setStage<Pushed>({ name: "direct", hosts: TRIO, prepare });

/** Declares a test that begins with all paths alive and none held back, whatever became of the test before. */
function pathProof(name: string, check: (lab: Lab, pushed: Pushed) => Promise<void>): void {
  proof(name, async (lab, pushed) => {
    await mendPaths(lab);
    await waitForPaths(lab, NAMES);
    await waitForUse(lab, NAMES);
    await check(lab, pushed);
  });
}

async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  await mendPaths(lab);
  await push(lab, program, {});
  return { program };
}

/** Machines behind the hosts are to use `veth_fac0`, so that it carries no address of the host. */
async function push(lab: Lab, program: string, vars: Readonly<Record<string, unknown>>, hosts = NAMES) {
  await writeInventory(lab, { hosts, vars: { mobula_access: "none", ...vars } });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  if (vars.mobula_switching !== "tree") await waitForPaths(lab, hosts);
}

async function assertPlanEmpty(lab: Lab, program: string): Promise<void> {
  expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan of a fleet that is as wanted");
}

/** From one gateway to the other, through both switches. */
function flow(lab: Lab, from: string, to: string) {
  const address = hostAddresses(lab.host(to).id).gateway;
  return startFlow(lab, `${from}-${to}`, lab.network(from, "mobula"), address);
}

const CONTROL = "control";

/** What came of pings, and how long the machine kept a switch, or what nothing of mobula carries, from going on, milliseconds. */
interface Seen {
  readonly flows: Readonly<Record<string, Answers>>;
  readonly still: number;
}

/** Runs the work while these ping, and beside them what nothing of mobula carries: what stands still there is the machine. */
async function controlled(lab: Lab, flows: readonly Flow[], work: () => Promise<unknown>): Promise<Seen> {
  const control = await startFlow(lab, CONTROL, lab.deployer, WORLD);
  const watch = watchStarvation(lab);
  let starved = 0;
  const seen = await during([...flows, control], () => work().finally(() => starved = watch.stop()));
  if (excusedSilence(starved) > 0) console.log(`  a switch waited for a processor for ${starved} ms of 300`);
  return { flows: seen, still: Math.max(seen[CONTROL]!.gap, starved) };
}

function assertNothingLost({ flows: seen, still }: Seen, ...names: string[]): void {
  const allowed = excusedSilence(still);
  for (const name of names) {
    const { lost, duplicates, gap } = seen[name]!;
    assertEquals({ lost: gap <= allowed ? 0 : lost, duplicates }, { lost: 0, duplicates: 0 }, name);
  }
}

/** Runs the work while all pairs ping; nobody may get an answer twice. */
async function whilePinging(lab: Lab, work: () => Promise<unknown>) {
  const flows = [
    await flow(lab, "alpha", "beta"),
    await flow(lab, "alpha", "gamma"),
    await flow(lab, "beta", "gamma"),
  ];
  const seen = await controlled(lab, flows, work);
  for (const [name, { duplicates }] of Object.entries(seen.flows)) {
    assertEquals(duplicates, 0, `${name}: no frame twice`);
  }
  return seen;
}

pathProof("plan: empty after the push, with all paths alive", async (lab, { program }) => {
  await assertPlanEmpty(lab, program);
});

pathProof("who asks for the address of a peer's gateway asks that peer alone, not the tree", async (lab) => {
  const alpha = lab.network("alpha", "mobula");
  const asked = hostAddresses(lab.host("beta").id).gateway;
  const nobody = "10.31.200.99";
  const onThird = await capture(lab, lab.network("gamma", "mobula"), LINK.switch, "arp[6:2] = 1");
  const ping = (address: string) => alpha.exec(["ping", "-n", "-c", "1", "-W", "2", address]);
  await alpha.exec(["ip", "neigh", "flush", "to", asked]);
  expectCode(await ping(asked), 0, "a ping of beta's gateway");
  await ping(nobody);
  // After the sender's MAC and address, and the target's MAC: RFC 826.
  const targets = (await onThird.stop()).map(({ payload }) => payload.slice(24, 28).join("."));
  assert(targets.includes(nobody), `gamma hears of the others: ${targets}`);
  assert(!targets.includes(asked), `gamma hears who asks for beta's gateway: ${targets}`);
});

pathProof("path stretch: one hop for every pair, counted on the ports", async (lab) => {
  await waitForStretch(lab, NAMES, 1);
});

for (
  const [title, cuts] of [
    ["both ways", [["alpha", "beta"], ["beta", "alpha"]]],
    ["one way", [["alpha", "beta"]]],
    ["the other way", [["beta", "alpha"]]],
  ] as const
) {
  pathProof(
    `a pair's path is cut ${title}: the pair goes on through the third, the others notice nothing`,
    async (lab) => {
      const cut = await whilePinging(lab, async () => {
        await cutPaths(lab, ...cuts);
        await Promise.all([waitForDeadPath(lab, ["alpha", "beta"]), waitForDeadPath(lab, ["beta", "alpha"])]);
        await waitForAnswers("the detour", () => lab.network("alpha", "mobula"), ["10.31.0.3"], 10_000);
      });
      // The pair itself may have lost nothing: on its way back from an earlier detour when the cut came.
      assertNothingLost(cut, "alpha-gamma", "beta-gamma");
      const back = await whilePinging(lab, async () => {
        await mendPaths(lab);
        await waitForPaths(lab, NAMES);
        // Also the step from the third host back to the direct path, after the path was held back.
        await waitForUse(lab, NAMES);
        await waitForAnswers("the direct path", () => lab.network("alpha", "mobula"), ["10.31.0.3"], 10_000);
      });
      assertNothingLost(back, "alpha-beta", "alpha-gamma", "beta-gamma");
      await waitForStretch(lab, NAMES, 1);
    },
  );
}

/** Tries, milliseconds in which a session that is up again has all its intervals, and after how many tries it may have fallen once more. */
const RETURNS = 4;
const SETTLING = 2500;
const FALLS_BY_CHANCE = 1;

pathProof("a path that returns stays: its session does not fall again while it settles", async (lab) => {
  const path: Direction = ["alpha", "beta"];
  let fell = 0;
  for (let round = 0; round < RETURNS; round++) {
    await waitForUse(lab, NAMES);
    const before = (await pathUse(lab, path)).flaps;
    await cutPaths(lab, path);
    await Promise.all([waitForDeadPath(lab, path), waitForDeadPath(lab, ["beta", "alpha"])]);
    await mendPaths(lab);
    await waitForPaths(lab, NAMES);
    await pause(SETTLING);
    // Once down, once up.
    if ((await pathUse(lab, path)).flaps > before + 2) fell++;
  }
  assert(fell <= FALLS_BY_CHANCE, `fell again after ${fell} of ${RETURNS} returns`);
});

pathProof("verify: a pair that a third host carries is named with it", async (lab, { program }) => {
  await cutPaths(lab, ["alpha", "beta"], ["beta", "alpha"]);
  await Promise.all([waitForDeadPath(lab, ["alpha", "beta"]), waitForDeadPath(lab, ["beta", "alpha"])]);
  const { code, stdout } = await mobula(lab, { executable: program }, "verify");
  assert(code !== 0, "something is broken");
  assertMatch(
    stdout,
    /the underlay between alpha and beta is broken both ways; they reach each other over gamma meanwhile/,
  );
});

for (const name of NAMES) {
  pathProof(`${name} is cut off: the other two lose nothing`, async (lab) => {
    const root = await rootHost(lab, NAMES);
    console.log(`  the root is ${root}`);
    const others = NAMES.filter((other) => other !== name);
    const pair = `${others[0]}-${others[1]}`;
    const cut = await controlled(lab, [await flow(lab, others[0]!, others[1]!)], async () => {
      await cutHosts(lab, name);
      await Promise.all(others.map((other) => waitForDeadPath(lab, [other, name])));
      await waitFor("a root among the others", () => rootHost(lab, others));
    });
    assertNothingLost(cut, pair);
    const began = performance.now();
    const back = await controlled(lab, [await flow(lab, others[0]!, others[1]!)], async () => {
      await mendPaths(lab);
      await waitForPaths(lab, NAMES);
      await waitForAnswers(
        `${name} after its return`,
        () => lab.network(name, "mobula"),
        gateways(lab),
        20_000,
      );
      console.log(`  ${name} is back after ${Math.round(performance.now() - began)} ms`);
    });
    assertNothingLost(back, pair);
  });
}

function gateways(lab: Lab, names: readonly string[] = NAMES): string[] {
  return names.map((name) => hostAddresses(lab.host(name).id).gateway);
}

/** From one host to the other's intrawire address; the source address must be the host's own. */
function wireFlow(lab: Lab, from: string, to: string) {
  const address = hostAddresses(lab.host(to).id).intrawire;
  return startFlow(lab, `${from}-${to} (intrawire)`, lab.network(from), address);
}

for (
  const [title, cuts] of [
    ["both ways", [["beta", "gamma"], ["gamma", "beta"]]],
    ["one way", [["beta", "gamma"]]],
  ] as const
) {
  pathProof(
    `intrawire: a pair's path is cut ${title}: it goes over the access network, and back`,
    async (lab, { program }) => {
      const flows = () => Promise.all([wireFlow(lab, "beta", "gamma"), wireFlow(lab, "alpha", "gamma")]);
      const cut = await controlled(lab, await flows(), async () => {
        await cutPaths(lab, ...cuts);
        await waitFor("the detour", async () => (await detours(lab, "beta")).includes("10.30.0.4"));
        const { intrawire } = hostAddresses(lab.host("gamma").id);
        await waitForAnswers("gamma's intrawire", () => lab.network("beta"), [intrawire], 10_000);
        assertEquals((await detours(lab, "alpha")).length, 0, "alpha has no reason for one");
        await assertPlanEmpty(lab, program);
      });
      assertNothingLost(cut, "alpha-gamma (intrawire)");
      assert(cut.flows["beta-gamma (intrawire)"]!.lost > 0, "the cut must have been one");
      const back = await controlled(lab, await flows(), async () => {
        await mendPaths(lab);
        await waitForPaths(lab, NAMES);
        await waitFor(
          "the end of the detours",
          async () => (await Promise.all(NAMES.map((name) => detours(lab, name)))).flat().length === 0,
        );
      });
      assertNothingLost(back, "beta-gamma (intrawire)", "alpha-gamma (intrawire)");
    },
  );
}

pathProof("intrawire: a peer's switch is restarted: no detour, nothing lost", async (lab) => {
  const seen = await controlled(lab, [await wireFlow(lab, "beta", "alpha")], async () => {
    await ask(lab, "alpha", ["systemctl", "restart", "mobula-vswitchd.service"]);
    await waitForPaths(lab, NAMES);
    await waitForHealed(lab, "alpha");
    assertEquals(await detours(lab, "beta"), []);
  });
  assertNothingLost(seen, "beta-alpha (intrawire)");
});

/** Intrawire addresses that a host reaches over the access network now. */
async function detours(lab: Lab, host: string): Promise<string[]> {
  const routes = await ask(lab, host, ["ip", "-4", "route", "show", "proto", "109"], "mobula");
  return [...routes.matchAll(/^(\S+) /gm)].map(([, address]) => address!);
}

/** More than this beyond the switch's own restart nobody stands still, milliseconds: the peers' hellos, and what this machine is busy with. */
const PATIENCE = { killed: 1000, restarted: 300 } as const;

pathProof(
  "vswitchd is killed: back at most a second after its restart, and no frame ever twice",
  async (lab, { program }) => {
    const seen = await whileSwitchReturns(
      lab,
      async (pid) => void await ask(lab, "alpha", ["kill", "-9", String(pid)]),
    );
    assertNothingLost(seen, "beta-gamma");
    for (const way of ["beta-alpha", "alpha-beta"]) {
      const { gap, duplicates } = seen.flows[way]!;
      assertEquals(duplicates, 0, way);
      const limit = seen.restart + PATIENCE.killed;
      assert(gap <= limit, `${way}: ${gap} ms; expected ${seen.restart} + ${PATIENCE.killed}`);
    }
    await assertPlanEmpty(lab, program);
  },
);

/** Milliseconds for which a path is left alone that has died twice, unless its other end has begun anew. */
const HELD_TWICE = 10_000;

pathProof("vswitchd is killed twice: its peers take its paths again at once", async (lab) => {
  for (const time of ["the first time", "the second time"]) {
    await whileSwitchReturns(
      lab,
      async (pid) => void await ask(lab, "alpha", ["kill", "-9", String(pid)]),
    );
    for (const peer of ["beta", "gamma"]) {
      const isUsed = async () => (await pathUse(lab, [peer, "alpha"])).used;
      await waitFor(`${peer} to use its path to alpha ${time}`, isUsed, { deadlineMs: HELD_TWICE / 2 });
    }
  }
});

pathProof(
  "vswitchd is restarted on purpose: its peers wait for it, and nobody else loses anything",
  async (lab, { program }) => {
    const before = await downs(lab, "beta");
    const seen = await whileSwitchReturns(
      lab,
      async () => void await ask(lab, "alpha", ["systemctl", "restart", "mobula-vswitchd.service"]),
    );
    assertNothingLost(seen, "beta-gamma");
    const { gap, duplicates } = seen.flows["beta-alpha"]!;
    assertEquals(duplicates, 0);
    // In userspace the process that is gone is what carries.
    assert(
      gap <= seen.restart + PATIENCE.restarted,
      `${gap} ms; expected ${seen.restart} + ${PATIENCE.restarted}`,
    );
    const fell = await downs(lab, "beta") - before;
    const stoodStill = excusedSilence(seen.still) > 0;
    assert(
      fell === 1 || stoodStill && fell === 2,
      `${fell} times down; expected once, at the new switch's hello`,
    );
    const interval = await vsctl(lab, "alpha", "get", "Interface", "mo-path-3", "bfd:min_tx");
    assertEquals(interval.trim().replaceAll('"', ""), "100");
    await assertPlanEmpty(lab, program);
  },
);

/** How often a host's direct path to alpha has come up or gone down. */
async function downs(lab: Lab, host: string): Promise<number> {
  const count = await vsctl(lab, host, "get", "Interface", "mo-path-2", "bfd_status:flap_count");
  return Math.floor(Number(count.trim().replaceAll('"', "")) / 2);
}

/** Milliseconds until flows that were deleted by hand are there again, on a busy machine. */
const REPAIR = 1000;

/** Pings while alpha's switch goes and returns; `restart` is the time from its end until it has its flows again, milliseconds. */
async function whileSwitchReturns(lab: Lab, go: (pid: number) => Promise<void>) {
  const before = (await mainPids(lab, "alpha")).vswitchd;
  const flows = await Promise.all([
    flow(lab, "beta", "alpha"),
    flow(lab, "alpha", "beta"),
    flow(lab, "beta", "gamma"),
  ]);
  let restart = 0;
  const seen = await controlled(lab, flows, async () => {
    const { twice } = await whileBroadcasting(lab, "beta", ["alpha", "gamma"], async () => {
      const watch = watchRestart(lab, "alpha", before);
      await go(before);
      restart = await watch;
      await waitForPaths(lab, NAMES);
      await waitForHealed(lab, "alpha");
      await waitForAnswers("alpha", () => lab.network("beta", "mobula"), ["10.31.0.2"], 10_000);
    });
    assertEquals(twice, 0, "no loop");
  });
  console.log(`  the switch was gone for ${restart} ms`);
  return { ...seen, restart };
}

/** What somebody may delete by hand, on a host of which system, and whether its own traffic notices. */
const DELETIONS = [
  {
    what: "all groups, and with them the flows that use them",
    host: "alpha",
    order: ["del-groups"],
    noticed: false,
  },
  {
    what: "all flows, the last ones of each table included",
    host: "alpha",
    order: ["del-flows"],
    noticed: true,
  },
  { what: "the flows of one table", host: "beta", order: ["del-flows", "table=4"], noticed: true },
] as const;

for (const { what, host, order, noticed } of DELETIONS) {
  pathProof(
    `${what}: deleted by hand, all carry on; plan shows it, push repairs it`,
    async (lab, { program }) => {
      const [verb, ...rest] = order;
      const others = NAMES.filter((name) => name !== host);
      let broadcasts: Broadcasts | undefined;
      const seen = await whilePinging(lab, async () => {
        broadcasts = await whileBroadcasting(lab, host, others, async () => {
          await ofctl(lab, host, verb, ...rest);
          await waitForAnswers("everybody", () => lab.network(host, "mobula"), gateways(lab), 5000);
          const plan = await mobula(lab, { executable: program }, "plan");
          expectCode(plan, 4, "the plan");
          assertMatch(plan.stdout, new RegExp(`${host}[^]*load the switch's flows`));
          assertEquals(await unreached(lab.network(host, "mobula"), gateways(lab)), []);
          expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
        });
      });
      assertEquals(broadcasts?.twice, 0, "no loop");
      const pairs = Object.keys(seen.flows).filter((pair) => !noticed || !pair.includes(host));
      assertNothingLost(seen, ...pairs);
      for (const [pair, { gap }] of Object.entries(seen.flows)) {
        assert(gap <= REPAIR, `${pair}: ${gap} ms; expected at most ${REPAIR}`);
      }
      await assertPlanEmpty(lab, program);
    },
  );
}

pathProof(
  "mobula_switching: from direct paths to the tree and back, by a push each",
  async (lab, { program }) => {
    try {
      const changed = await whilePinging(lab, () => push(lab, program, { mobula_switching: "tree" }));
      for (const { lost, sent } of Object.values(changed.flows)) {
        console.log(`  to the tree: ${lost} of ${sent} lost`);
      }
      await waitForAnswers("the tree", () => lab.network("beta", "mobula"), gateways(lab), 20_000);
      assertEquals((await vsctl(lab, "alpha", "list-ports", "ovsbr-mobula")).match(/mo-(path|t)-\d+/g), [
        "mo-t-3",
        "mo-t-4",
      ]);
      await waitForStretch(lab, NAMES, 4 / 3);
      await assertPlanEmpty(lab, program);
    } finally {
      await whilePinging(lab, () => push(lab, program, {}));
    }
    await assertPlanEmpty(lab, program);
    const ports = ["mo-path-2", "mo-path-4", "mo-t-2", "mo-t-4"].join();
    await waitFor(`the ports ${ports} of beta`, async () => (await livePorts(lab, "beta")).join() === ports);
  },
);

pathProof(
  "a host comes and goes: nobody else's learned addresses, paths or pings are disturbed",
  async (lab, { program }) => {
    const delta = lab.state.hosts.find(({ name }) => name === "delta") ??
      await lab.addHost({ name: "delta", address: "198.51.100.5", suite: "trixie" });
    const before = await learnedOfHosts(lab);
    assert(before.length > 0, "something is learned");
    const came = await whilePinging(lab, () => push(lab, program, {}, [...NAMES, delta.name]));
    assertNothingLost(came, "alpha-beta", "alpha-gamma", "beta-gamma");
    assertEquals(await unreached(lab.network("delta", "mobula"), gateways(lab, [...NAMES, "delta"])), []);
    const went = await whilePinging(lab, () => push(lab, program, {}));
    assertNothingLost(went, "alpha-beta", "alpha-gamma", "beta-gamma");
    const after = await learnedOfHosts(lab);
    for (const { at, mac, host, age } of before) {
      const now = after.find((one) => one.at === at && one.mac === mac);
      assertEquals(now?.host, host, `${mac} at ${at}`);
      assert(now!.age > age, `${mac} at ${at} was forgotten and learned anew`);
    }
    await lab.removeHost("delta");
  },
);

/** Where each host's gateway is, as each host knows it. */
async function learnedOfHosts(lab: Lab) {
  const all = await Promise.all(
    NAMES.map(async (at) => (await learned(lab, at)).map((one) => ({ at, ...one }))),
  );
  return all.flat().filter(({ mac, host }) => host !== 0 && /^02:6d:6f:.*:01$/.test(mac));
}
