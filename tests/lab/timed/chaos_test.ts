/**
 * Strikes one host of three at a spread of the steps of push, of the local installation and of the way back. `deno task chaos` strikes
 * at all of them. Needs root and the lab's packages.
 */
import { assert, assertEquals } from "@std/assert";
import { FAULTS, type Injection, injectionsOf, nameOf, pointsOf, spread } from "../../chaos/points.ts";
import { injectAll, renderSummary } from "../../chaos/run.ts";
import kept from "../../chaos/spread.json" with { type: "json" };
import { SCENARIOS, VICTIM } from "../../chaos/scenarios.ts";
import { CHAOS_HOSTS, type ChaosStage, prepareChaos } from "../../chaos/stage.ts";
import { setStage } from "../proof.ts";

/** Each fault and each scenario at least twice. */
const COUNT = 12;
const SEED = 7;
/** Chosen from a recording of every step, so that only the strikes themselves take time here. */
const SPREAD = kept as readonly Injection[];
const RECORD_ANEW =
  `record anew: deno task chaos --list --count ${COUNT} --seed ${SEED} --save tests/chaos/spread.json`;

Deno.test("pointsOf: what the host does, and what the deployer does beside it", () => {
  const effects = [
    { verb: "stage", title: "write generation N", nth: 1 },
    { verb: "probe", title: "ping", nth: 3 },
  ];
  const lines = [
    `${VICTIM}: stage configuration`,
    `${VICTIM}: - write generation 5`,
    "alpha: stage configuration",
    `${VICTIM}: - send executable`,
    `${VICTIM}: stage configuration`,
  ];
  const points = pointsOf({ effects, lines }, VICTIM);
  assertEquals(injectionsOf("update", points, ["power"]).map(nameOf), [
    `update | deployer: ${VICTIM}: stage configuration | power`,
    `update | deployer: ${VICTIM}: - send executable | power`,
    "update | stage: write generation N | power",
  ]);
});

Deno.test("spread: every scenario and every fault, the same for the same seed", () => {
  const points = Array.from({ length: 30 }, (_, index) => ({ at: "deployer", line: `${index}` } as const));
  const all: Injection[] = SCENARIOS.flatMap(({ name, faults }) => injectionsOf(name, points, faults));
  const chosen = spread(all, COUNT, SEED);
  assertEquals(chosen.length, COUNT);
  assertEquals(chosen, spread(all, COUNT, SEED));
  assert(spread(all, COUNT, SEED + 1).map(nameOf).join() !== chosen.map(nameOf).join());
  assertEquals(new Set(chosen.map(({ scenario }) => scenario)).size, SCENARIOS.length);
  assertEquals(new Set(chosen.map(({ fault }) => fault)).size, 5);
});

const { proof } = setStage<ChaosStage>({ name: "chaos-spread", hosts: CHAOS_HOSTS, prepare: prepareChaos });

Deno.test("the kept spread has every scenario, every fault and a strike at the deployer's own steps", () => {
  assertEquals(SPREAD.length, COUNT, RECORD_ANEW);
  assertEquals(
    new Set(SPREAD.map(({ scenario }) => scenario)),
    new Set(SCENARIOS.map(({ name }) => name)),
    RECORD_ANEW,
  );
  assertEquals(new Set(SPREAD.map(({ fault }) => fault)), new Set(FAULTS), RECORD_ANEW);
  assert(SPREAD.some(({ point }) => point.at === "deployer"), RECORD_ANEW);
});

proof("a host that is struck answers SSH again, and the next push repairs it", async (_lab, stage) => {
  const write = (line: string) => console.log(line);
  const outcomes = await injectAll(stage, SPREAD, { write });
  write(renderSummary(outcomes));
  assertEquals(outcomes.flatMap(({ problems }) => problems), []);
  // A point may be passed by, where a retry was not needed for example; not most of them.
  const reached = outcomes.filter((outcome) => outcome.reached).length;
  assert(reached >= COUNT - 2, `only ${reached} of ${COUNT} points were reached; ${RECORD_ANEW}`);
});
