/**
 * Part of `deno task bench failover`: long outages (all of the underlay, a fleet in two halves) and a path that loses packets. Figures
 * only: nothing here passes or fails. Cuts and mends the underlay of a lab.
 */
import { hostAddresses } from "../../lib/address.ts";
import { type Broadcasts, listenForBroadcasts } from "../../tests/lab/broadcasts.ts";
import type { Lab } from "../../tests/lab/lab.ts";
import {
  type Answers,
  cutHosts,
  cutPaths,
  type Direction,
  during,
  type Flow,
  mendPaths,
  pathUse,
  type PathWatch,
  restsOf,
  startFlow,
  thinPaths,
  waitForPaths,
  waitForUse,
  watchPath,
} from "../../tests/lab/switching.ts";
import { pause, waitFor } from "../../tests/lab/wait.ts";

/** A fleet, and how it is parted. */
export type Halves = readonly [readonly string[], readonly string[]];

/** Milliseconds that an outage lasts. */
const OUTAGE = 60_000;
/** Milliseconds after it during which broadcasts are counted. */
const AFTERMATH = 15_000;

/** Pings run between so many pairs of each kind: across the halves, and inside of one. */
const PAIRS = 3;

/** One way in which a fleet falls apart. */
interface Case {
  readonly title: string;
  readonly strike: (lab: Lab, halves: Halves) => Promise<void>;
  /** Those inside of a half are parted, too. */
  readonly all: boolean;
}

const CASES: readonly Case[] = [
  {
    title: `all of the underlay down for ${OUTAGE / 1000} s`,
    strike: (lab, halves) => cutHosts(lab, ...halves.flat()),
    all: true,
  },
  {
    title: `two halves, joined after ${OUTAGE / 1000} s`,
    strike: (lab, halves) =>
      cutPaths(lab, ...across(halves).flatMap(([a, b]): Direction[] => [[a, b], [b, a]])),
    all: false,
  },
];

function across([one, other]: Halves): Direction[] {
  return one.flatMap((a) => other.map((b) => [a, b] as const));
}

function within(halves: Halves): Direction[] {
  return halves.flatMap((half) => half.slice(1).map((name) => [half[0]!, name] as const));
}

/** What one outage cost. */
interface Outcome {
  /** Milliseconds after the underlay's return until the last pair answered, by network. */
  readonly back: Readonly<Record<string, number>>;
  /** Pings lost between those who were never parted. */
  readonly lost: number;
  readonly twice: number;
  /** Broadcasts after the return: sent, arrived at all three others, arrived more than once. */
  readonly broadcasts: Broadcasts;
}

/** Runs the outages whose title holds these words so many times and prints what they cost. */
export async function measureOutages(lab: Lab, halves: Halves, rounds: number, only = ""): Promise<void> {
  for (const one of CASES.filter(({ title }) => title.includes(only))) {
    const seen: Outcome[] = [];
    for (let round = 0; round < rounds; round++) {
      seen.push(await runOutage(lab, halves, one));
      console.log(`${one.title}, round ${round + 1} of ${rounds}: ${JSON.stringify(seen.at(-1))}`);
    }
    console.log(`\n${one.title}`);
    for (const network of ["access", "intrawire"]) {
      const times = seen.map(({ back }) => back[network] ?? NaN).sort((a, b) => a - b);
      console.log(`  ${network}: back after ${median(times)} ms, at most ${times.at(-1)}`);
    }
    const sum = (count: (outcome: Outcome) => number) => seen.reduce((total, one) => total + count(one), 0);
    console.log(
      `  never parted: ${sum(({ lost }) => lost)} pings lost; ${sum(({ twice }) => twice)} answers twice\n` +
        `  broadcasts after the return: ${
          sum(({ broadcasts }) => broadcasts.sent)
        } sent to each of the others, ` +
        `${sum(({ broadcasts }) => broadcasts.arrived)} arrived, ${
          sum(({ broadcasts }) => broadcasts.twice)
        } twice`,
    );
  }
}

/** Of sorted numbers; of two in the middle, the lower. */
export function median(sorted: readonly number[]): number {
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN;
}

async function runOutage(lab: Lab, halves: Halves, { strike, all }: Case): Promise<Outcome> {
  const [first = "", ...others] = halves.flat();
  await mendPaths(lab);
  await waitForPaths(lab, halves.flat(), 60_000);
  const cross = across(halves).slice(0, PAIRS);
  const inside = within(halves).slice(0, PAIRS);
  const flows = await Promise.all(
    [...cross, ...inside].flatMap((
      pair,
    ) => [startPair(lab, pair, "gateway"), startPair(lab, pair, "intrawire")]),
  );
  const parted = ({ pair }: PairFlow) => all || cross.includes(pair);
  const back: Record<string, number> = {};
  let broadcasts: Broadcasts = { sent: 0, arrived: 0, twice: 0 };
  const seen = await during(flows.map(({ flow }) => flow), async () => {
    await strike(lab, halves);
    await pause(OUTAGE);
    const send = await listenForBroadcasts(lab, first, others);
    const before = new Map(flows.map(({ flow }) => [flow, flow.answers()]));
    await mendPaths(lab);
    const began = performance.now();
    const counted = send(() => performance.now() > began + AFTERMATH);
    await Promise.all(
      flows.filter(parted).map(async ({ flow, network }) => {
        await waitFor(`answers of ${flow.name}`, () => flow.answers() > before.get(flow)!, {
          deadlineMs: 120_000,
          intervalMs: 20,
        });
        back[network] = Math.max(back[network] ?? 0, Math.round(performance.now() - began));
      }),
    );
    broadcasts = await counted;
  }, { quiet: true });
  const whole = flows.filter((one) => !parted(one)).map(({ flow }) => seen[flow.name]!);
  const count = (answers: readonly Answers[], what: "lost" | "duplicates") =>
    answers.reduce((total, one) => total + one[what], 0);
  return { back, lost: count(whole, "lost"), twice: count(Object.values(seen), "duplicates"), broadcasts };
}

interface PairFlow {
  readonly pair: Direction;
  readonly network: "access" | "intrawire";
  readonly flow: Flow;
}

async function startPair(lab: Lab, pair: Direction, network: "gateway" | "intrawire"): Promise<PairFlow> {
  const [from, to] = pair;
  const place = network === "gateway" ? lab.network(from, "mobula") : lab.network(from);
  const flow = await startFlow(
    lab,
    `${from}-${to} ${network}`,
    place,
    hostAddresses(lab.host(to).id)[network],
  );
  return { pair, network: network === "gateway" ? "access" : "intrawire", flow };
}

/** Milliseconds that a path loses packets, and how many of a hundred. */
const THIN = { time: 60_000, percent: 20 } as const;
export const THIN_TITLE = `${THIN.percent} % lost both ways for ${THIN.time / 1000} s`;
const PATH: readonly Direction[] = [["alpha", "beta"], ["beta", "alpha"]];

/** A path that loses packets both ways: how often it is given up, and what users lose. */
export async function measureThinPath(lab: Lab, names: readonly string[], rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    await mendPaths(lab);
    await waitForUse(lab, names);
    const flows = [
      await startFlow(
        lab,
        "access",
        lab.network("alpha", "mobula"),
        hostAddresses(lab.host("beta").id).gateway,
      ),
      await startFlow(lab, "intrawire", lab.network("alpha"), hostAddresses(lab.host("beta").id).intrawire),
    ];
    const before = await Promise.all(PATH.map((one) => pathUse(lab, one)));
    let watched: PathWatch = { givenUp: [], unused: 0 };
    const seen = await during(flows, async () => {
      await thinPaths(lab, THIN.percent, ...PATH);
      watched = await watchPath(lab, PATH[0]!, THIN.time);
    }, { quiet: true });
    const after = await Promise.all(PATH.map((one) => pathUse(lab, one)));
    await mendPaths(lab);
    const flaps = after.map((now, index) => Math.round((now.flaps - before[index]!.flaps) / 2));
    const rests = restsOf(watched);
    console.log(
      `${THIN_TITLE}, round ${round} of ${rounds}: BFD down ${flaps.join(" and ")} times; ` +
        `alpha gave the path up ${watched.givenUp.length} times, ${
          rests.map((rest) => rest.toFixed(1)).join(", ") || "-"
        } s apart, and used it ` +
        `${Math.round(100 - watched.unused * 100)} % of the time; lost: ` +
        Object.entries(seen).map(([name, { lost, sent }]) => `${name} ${(lost / sent * 100).toFixed(1)} %`)
          .join(", "),
    );
  }
}
