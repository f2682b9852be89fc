/** The list of injections, the choice of each run, and how far a long list is. */
import { assert, assertEquals } from "@std/assert";
import type { Outcome } from "../chaos/inject.ts";
import { FAULTS, type Injection, injectionsOf, nameOf, pointsOf, spread } from "../chaos/points.ts";
import { leftOf, renderProgress } from "../chaos/progress.ts";
import { SCENARIOS, VICTIM } from "../chaos/scenarios.ts";
import { COUNT, HALF, halfOf, RECORD_ANEW, SEED, SPREAD } from "../chaos/spread.ts";

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

Deno.test("the kept spread: each half has every scenario, every fault and the deployer's own steps are in", () => {
  assertEquals(SPREAD.length, COUNT, RECORD_ANEW);
  for (const parity of [0, 1] as const) {
    const half = halfOf(parity);
    assertEquals(half.length, HALF);
    assertEquals(
      new Set(half.map(({ scenario }) => scenario)),
      new Set(SCENARIOS.map(({ name }) => name)),
      RECORD_ANEW,
    );
    assertEquals(new Set(half.map(({ fault }) => fault)), new Set(FAULTS), RECORD_ANEW);
  }
  assert(SPREAD.some(({ point }) => point.at === "deployer"), RECORD_ANEW);
});

Deno.test("leftOf, renderProgress: what is done is left out, what had problems is made again", () => {
  const points = ["a", "b", "c"].map((line) => ({ at: "deployer", line } as const));
  const list = injectionsOf("update", points, ["power"]);
  const done = (index: number, changes: Partial<Outcome> = {}) => ({
    name: nameOf(list[index]!),
    date: "2026-12-01T00:00:00Z",
    reached: true,
    lockedOut: false,
    problems: [],
    ...changes,
  });
  const progress = [done(0), done(1, { lockedOut: true, problems: ["locked out"] })];
  assertEquals(leftOf(list, progress).map(nameOf), [nameOf(list[1]!), nameOf(list[2]!)]);
  assertEquals(
    renderProgress(list, progress),
    "2 of 3 in the list made so far: 2 injected, 1 locked out, 1 with problems",
  );
  assertEquals(leftOf(list, [...progress, done(1)]).map(nameOf), [nameOf(list[2]!)]);
});
