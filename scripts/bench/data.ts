/**
 * `deno task bench data`: how fast the networks carry data, each beside the others it is compared with. Makes a lab of three virtual
 * machines and removes it. Figures only: nothing here passes or fails.
 */
import { must } from "../../tests/lab/process.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../../tests/lab/packages.ts";
import { waitFor } from "../../tests/lab/wait.ts";
import { PROGRAM, VM_PACKAGES } from "../../tests/vm/qemu.ts";
import { type Contender, CONTENDERS } from "./contenders.ts";
import { type Guest, withGuests } from "./guests.ts";
import { COLUMNS, type Figures, type Measure, MEASURES, type Path, serve } from "./measures.ts";
import { absolute, ratio, renderAbsolute, renderRatios, renderTargets, type Rounds } from "./ratios.ts";

/** What others are measured by. */
const REFERENCE = "wireguard";

export interface DataOptions {
  readonly rounds: number;
  /** Only these networks, by name; the reference is always among them. */
  readonly networks?: readonly string[];
  /** Only measures whose name holds this. */
  readonly measures?: string;
  /** Standard output gets JSON in place of the table. */
  readonly json: boolean;
}

/** Everything that was measured, and on what. */
interface Measured {
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: Rounds;
}

/** Measures and prints. */
export async function benchData({ rounds, networks, measures = "", json }: DataOptions): Promise<void> {
  await ensurePackages([...MACHINE_PACKAGES, ...VM_PACKAGES]);
  const wanted = {
    contenders: CONTENDERS.filter(({ name }) => name === REFERENCE || (networks?.includes(name) ?? true)),
    measures: MEASURES.filter(({ name }) => name.includes(measures)),
  };
  const measured = await withGuests(tell, (guests) => measureAll(guests, rounds, wanted));
  console.log(json ? JSON.stringify(report(measured), null, 2) : renderReport(measured));
}

const START = performance.now();

function tell(line: string): void {
  console.error(`${((performance.now() - START) / 1000).toFixed(0).padStart(5)} s  ${line}`);
}

/** Sets everything up and measures: each measure on all contenders in turn, then the next one, and that so many times. */
export async function measureAll(
  guests: readonly Guest[],
  count: number,
  { contenders, measures }: { contenders: readonly Contender[]; measures: readonly Measure[] },
): Promise<Measured> {
  const paths = contenders.map((contender) => pathOf(contender, guests));
  await serve(guests);
  for (const path of paths) await setUp(path, guests);
  const rounds: Record<string, Figures[]> = Object.fromEntries(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < count; round++) {
    for (const measure of measures) {
      tell(`round ${round + 1} of ${count}: ${measure.name}`);
      for (const path of paths) {
        const figures = await take(measure, path);
        tell(`    ${path.contender.name}: ${renderFigures(figures)}`);
        const all = rounds[path.contender.name] ?? [];
        all[round] = { ...all[round], ...figures };
      }
    }
  }
  return { versions: await versionsOf(guests), rounds };
}

function pathOf(contender: Contender, guests: readonly Guest[]): Path {
  const [from, to] = contender.pair.map((place) => guests[place]);
  if (!from || !to) {
    throw new Error(`Cannot measure ${contender.name}: ${guests.length} machines; expected three`);
  }
  return { contender, from, to, address: contender.address(to.id) };
}

const ANSWER_DEADLINE_MS = 120_000;

async function setUp({ contender, from, address }: Path, guests: readonly Guest[]): Promise<void> {
  tell(`set up ${contender.title}`);
  await contender.setUp?.(guests);
  await waitFor(`an answer over ${contender.name}`, async () => {
    await from.sh('ping -n -q -c 1 -W 2 "$1"', { args: [address] });
    return true;
  }, { deadlineMs: ANSWER_DEADLINE_MS });
}

/** A figure that cannot be had is left out, after a second try with a fresh server. */
async function take(measure: Measure, path: Path): Promise<Figures> {
  return await measure.take(path).catch(async (error) => {
    tell(`    again: ${error.message}`);
    await serve([path.to]);
    return await measure.take(path).catch((error): Figures => {
      tell(`    left out: ${error.message}`);
      return {};
    });
  });
}

function renderFigures(figures: Figures): string {
  return Object.entries(figures).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
}

const PACKAGES = ["fastd", "iperf3", "nebula", "openvswitch-switch", "tinc"];

async function versionsOf([guest]: readonly Guest[]): Promise<Record<string, string>> {
  const said =
    await guest?.sh(`uname -r; dpkg-query -W -f '\${Package} \${Version}\\n' ${PACKAGES.join(" ")}`) ?? "";
  const [kernel = "", ...packages] = said.trim().split("\n");
  const emulator = (await must([PROGRAM, "--version"])).split("\n")[0] ?? "";
  const pairs = packages.map((line) => line.split(" ") as [string, string]);
  return { kernel, ...Object.fromEntries(pairs), emulator };
}

function report({ versions, rounds }: Measured) {
  const of = (value: (contender: string, figure: typeof COLUMNS[number]["figure"]) => number) =>
    Object.fromEntries(
      CONTENDERS.map(({ name }) => [
        name,
        Object.fromEntries(COLUMNS.map(({ figure }) => [figure, value(name, figure)])),
      ]),
    );
  return {
    date: new Date().toISOString(),
    versions,
    median: of((name, figure) => absolute(rounds, name, figure)),
    to_raw: of((name, figure) => ratio(rounds, name, "raw", figure)),
    to_wireguard: of((name, figure) => ratio(rounds, name, REFERENCE, figure)),
    rounds,
  };
}

function renderReport({ versions, rounds }: Measured): string {
  return [
    renderRatios(rounds, CONTENDERS, REFERENCE),
    "",
    renderTargets(rounds, CONTENDERS),
    "",
    `1.00 is: ${renderAbsolute(rounds, REFERENCE)}`,
    Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", "),
  ].join("\n");
}
