/**
 * The list of injections: every point of a clean run × every fault, as data. Pure.
 */
import { type Effect, lastingName } from "./strike.ts";

/** What is done to a host, or to the deployer. */
export const FAULTS = ["deployer", "process", "reboot", "power", "disk"] as const;

/** `process` kills what works on the host, `power` takes it away without a goodbye, `disk` leaves no byte free. */
export type Fault = typeof FAULTS[number];

/** Where to strike: at an effect on the host, or at a line of the deployer's. */
export type Point =
  | { readonly at: "host"; readonly effect: Effect }
  | { readonly at: "deployer"; readonly line: string };

/** One strike of one scenario. */
export interface Injection {
  readonly scenario: string;
  readonly point: Point;
  readonly fault: Fault;
}

/** What a clean run of a scenario showed. */
export interface Recording {
  /** In their order, as the host's log has them. */
  readonly effects: readonly Effect[];
  /** Everything that the deployer said, empty where there is none. */
  readonly lines: readonly string[];
}

/** A verb that is asked again and again comes by the same effect as often: the first few times stand for all. */
const MAX_NTH = 2;

/** All points of a recording; what the deployer passes on from the host is the host's own point already. */
export function pointsOf({ effects, lines }: Recording, victim: string): Point[] {
  const titles = new Set(effects.map(({ title }) => title));
  const said = lines.filter((line) => line.startsWith(`${victim}: `)).filter((line) =>
    !titles.has(lastingName(line.slice(victim.length + 2).replace(/^- /, "")))
  );
  return [
    ...[...new Set(said.map(lastingName))].map((line) => ({ at: "deployer", line } as const)),
    ...effects.filter(({ nth }) => nth <= MAX_NTH).map((effect) => ({ at: "host", effect } as const)),
  ];
}

/** Every point with every fault that the scenario knows. */
export function injectionsOf(
  scenario: string,
  points: readonly Point[],
  faults: readonly Fault[],
): Injection[] {
  return points.flatMap((point) => faults.map((fault) => ({ scenario, point, fault })));
}

/** One line, the same in every run: what `--filter` looks at. */
export function nameOf({ scenario, point, fault }: Injection): string {
  const where = point.at === "deployer"
    ? `deployer: ${point.line}`
    : `${point.effect.verb}: ${point.effect.title}${point.effect.nth > 1 ? ` (${point.effect.nth})` : ""}`;
  return `${scenario} | ${where} | ${fault}`;
}

/** The same order for the same seed; 0 leaves the list as it is. */
export function shuffle<T>(items: readonly T[], seed: number): T[] {
  if (seed === 0) return [...items];
  const shuffled = [...items];
  let state = seed >>> 0;
  for (let last = shuffled.length - 1; last > 0; last--) {
    // A linear congruential generator (Numerical Recipes): good enough to mix a list.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const chosen = Math.floor(state / 2 ** 32 * (last + 1));
    [shuffled[last], shuffled[chosen]] = [shuffled[chosen]!, shuffled[last]!];
  }
  return shuffled;
}

/** The fault of the first scenario in each round; three of the scenarios know no fault of the deployer. */
const SHIFTS = [4, 2, 0, 3, 1];

/**
 * So many of the list that each scenario comes first once, then twice, and so on; of one scenario the faults take turns. All faults are
 * among the first injections of all scenarios, and among the second ones. The seed decides the points.
 */
export function spread(injections: readonly Injection[], count: number, seed: number): Injection[] {
  const mixed = shuffle(injections, seed);
  const scenarios = [...new Set(injections.map(({ scenario }) => scenario))];
  const kinds = SHIFTS.flatMap((shift) =>
    scenarios.map((scenario, index) => ({ scenario, fault: FAULTS[(index + shift) % FAULTS.length] }))
  );
  const queues = kinds.map(({ scenario, fault }) =>
    mixed.filter((injection) => injection.scenario === scenario && injection.fault === fault)
  );
  const rounds = Math.max(0, ...queues.map((queue) => queue.length));
  return Array.from({ length: rounds }, (_, round) => queues.flatMap((queue) => queue[round] ?? [])).flat()
    .slice(0, count);
}
