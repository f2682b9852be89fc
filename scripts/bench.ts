/**
 * `deno task bench`: what a push, a start and a plan cost on this machine, as a table and as JSON; `deno task bench data`: how fast the
 * networks carry data; `deno task bench loss`: what updates lose. Needs root; makes a lab and removes it. Figures only: nothing here
 * passes or fails.
 */
import { Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { benchLoss } from "./bench/loss.ts";
import { fromFileUrl } from "@std/path";
import { type Lab, withLab } from "../tests/lab/lab.ts";
import { writeInventory } from "../tests/lab/inventory.ts";
import { ensurePackages } from "../tests/lab/packages.ts";
import { must } from "../tests/lab/process.ts";
import { type ProgramCount, programTotal, startCounting, stopCounting } from "../tests/lab/programs.ts";
import { CONTENDERS } from "./bench/contenders.ts";
import { benchData } from "./bench/data.ts";
import { failoverCommand } from "./bench/failover.ts";
import { MEASURES } from "./bench/measures.ts";
import { benchScale } from "./bench/scale.ts";
import { busySeconds } from "./busy.ts";
import { source } from "./bench/source.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url)).replace(/\/$/, "");
const EXECUTABLE = `${ROOT}/dist/mobula`;
const REPORT = `${ROOT}/dist/bench.json`;
const REPEATS = 5;
/** So often three hosts are installed, and given new keys. */
const INSTALLATIONS = 3;

/** One line of the table. */
interface Figure {
  readonly what: string;
  readonly value: number;
  readonly unit: "s" | "ms" | "MB" | "";
  /** What it should stay below. */
  readonly target?: number;
  readonly detail?: string;
}

interface PushReport {
  readonly ok: boolean;
  readonly seconds: Readonly<Record<string, number>>;
  readonly hosts: readonly { readonly executable_sent: boolean; readonly steps: readonly string[] }[];
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

async function timed<T>(work: () => Promise<T>): Promise<{ seconds: number; result: T }> {
  const start = performance.now();
  const result = await work();
  return { seconds: (performance.now() - start) / 1000, result };
}

/** A push, and what the kernel counted on the host that ran most programs; starts are those of mobula itself. */
interface Pushed {
  readonly seconds: number;
  /** Processor time of the whole machine, deployer included, for each host. */
  readonly cpuSeconds: number;
  readonly report: PushReport;
  readonly programs: number;
  readonly starts: number;
}

async function push(lab: Lab, inventory: string, ...args: readonly string[]): Promise<Pushed> {
  const argv = [
    EXECUTABLE,
    "push",
    inventory,
    "--ssh-config",
    lab.sshConfig,
    "--no-reboot",
    "--json",
    ...args,
  ];
  const hosts = lab.state.hosts.map(({ name }) => name);
  await Promise.all(hosts.map((name) => startCounting(lab, name)));
  const busy = await busySeconds();
  const { seconds, result } = await timed(() => lab.deployer.exec(argv));
  const cpuSeconds = (await busySeconds() - busy) / hosts.length;
  const counts = await Promise.all(hosts.map((name) => stopCounting(lab, name)));
  const report: PushReport = JSON.parse(result.stdout);
  if (result.code !== 0 || !report.ok) {
    throw new Error(`Cannot measure push: exit code ${result.code}; expected 0\n${result.stdout}`);
  }
  return {
    seconds,
    cpuSeconds,
    report,
    programs: Math.max(...counts.map(programTotal)),
    starts: Math.max(...counts.map((count) => programTotal(count.filter(isStart)))),
  };
}

/** The self-unpacking executable runs Deno by the loader of its own C library. */
function isStart({ name }: ProgramCount): boolean {
  return name.startsWith("ld-linux") || name.startsWith("mobula") || name === "deno";
}

function phases({ report: { seconds } }: Pushed): string {
  return Object.entries(seconds).filter(([, value]) => value >= 0.05).map(([name, value]) =>
    `${name} ${value.toFixed(1)}`
  ).join(", ");
}

async function benchPush(): Promise<Figure[]> {
  const hosts = ["alpha", "beta", "gamma"].map((name, index) => ({
    name,
    address: `198.51.100.${index + 2}`,
    suite: index === 1 ? "bookworm" as const : "trixie" as const,
  }));
  const [first, again, rotated]: [Pushed[], Pushed[], Pushed[]] = [[], [], []];
  for (let round = 0; round < INSTALLATIONS; round++) {
    await withLab("bench", hosts, async (lab) => {
      const inventory = await writeInventory(lab);
      first.push(await push(lab, inventory));
      if (round === 0) { for (let more = 0; more < REPEATS; more++) again.push(await push(lab, inventory)); }
      await writeInventory(lab, { vars: { mobula_keys: "rotate" } });
      rotated.push(await push(lab, inventory));
    });
  }
  const sent = again.flatMap(({ report }) => report.hosts).filter((host) =>
    host.executable_sent || host.steps.length > 0
  );
  return [
    {
      what: `push, three prepared hosts, no reboot (median of ${first.length})`,
      value: median(first.map(({ seconds }) => seconds)),
      unit: "s",
      target: 7,
      detail: `${first.map(({ seconds }) => seconds.toFixed(1)).join(", ")}; ${phases(first[0]!)}`,
    },
    {
      what: `second push, nothing to change (median of ${again.length})`,
      value: median(again.map(({ seconds }) => seconds)),
      unit: "s",
      target: 1.2,
      detail: `${phases(again[0]!)}; ${sent.length} hosts were sent or changed anything`,
    },
    ...countFigures("push, three prepared hosts", first, { programs: 250, starts: 5 }),
    ...countFigures("second push, nothing to change", again, { programs: 60, starts: 2 }),
    newKeysFigure(first, rotated),
  ];
}

/** What new keys for all cost beside an installation. */
function newKeysFigure(first: readonly Pushed[], rotated: readonly Pushed[]): Figure {
  const [installation, keys] = [first, rotated].map((pushes) =>
    median(pushes.map(({ cpuSeconds }) => cpuSeconds))
  ) as [number, number];
  return {
    what: "new keys for all, processor time for each host",
    value: keys,
    unit: "s",
    target: Number((installation / 3).toFixed(2)),
    detail: `an installation: ${installation.toFixed(2)} s; a push in ${
      median(rotated.map(({ seconds }) => seconds)).toFixed(1)
    } s`,
  };
}

/** What the kernel counted on the busiest host, as the median of some pushes. */
function countFigures(
  what: string,
  pushes: readonly Pushed[],
  targets: { readonly programs: number; readonly starts: number },
): Figure[] {
  return (["programs", "starts"] as const).map((name) => ({
    what: `${what}: ${name} on a host`,
    value: median(pushes.map((pushed) => pushed[name])),
    unit: "",
    target: targets[name],
  }));
}

async function benchStart(): Promise<Figure[]> {
  await must([EXECUTABLE, "--version"]);
  const runs: number[] = [];
  for (let round = 0; round < REPEATS * 4; round++) {
    runs.push((await timed(() => must([EXECUTABLE, "--version"]))).seconds * 1000);
  }
  return [{
    what: `mobula --version (median of ${runs.length})`,
    value: median(runs),
    unit: "ms",
    target: 90,
    detail: `fastest ${Math.min(...runs).toFixed(0)} ms`,
  }, await benchVerb()];
}

/** A verb of a host beside an empty Deno program, in turn: both see the same neighbours. */
async function benchVerb(): Promise<Figure> {
  const folder = await Deno.makeTempDir({ prefix: "mobula-bench-" });
  try {
    const file = `${folder}/empty.js`;
    await Deno.writeTextFile(file, "");
    const empty = [
      "env",
      `DENO_DIR=${folder}/cache`,
      "DENO_NO_UPDATE_CHECK=1",
      Deno.execPath(),
      "run",
      "--quiet",
    ];
    const options = [
      "--allow-all",
      "--no-config",
      "--no-lock",
      "--no-npm",
      "--no-remote",
      "--no-check",
      file,
    ];
    const [verbs, empties]: [number[], number[]] = [[], []];
    for (let round = 0; round < REPEATS; round++) {
      verbs.push(await cpuOf([EXECUTABLE, "host", "status"]));
      empties.push(await cpuOf([...empty, ...options]));
    }
    const detail = `an empty Deno program: ${median(empties).toFixed(0)} ms`;
    return {
      what: "CPU of a host's verb (host status)",
      value: median(verbs),
      unit: "ms",
      target: 120,
      detail,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Processor time (user and system, milliseconds) of one start, as the mean of five after one that fills the caches. */
async function cpuOf(argv: readonly string[]): Promise<number> {
  const script = 'exec </dev/null; "$@"; times; "$@"; "$@"; "$@"; "$@"; "$@"; times';
  // sh, times: two lines a call, the shell's own and its children's, like "0m1.230000s 0m0.500000s".
  const lines = (await must(["sh", "-c", script, "sh", ...argv])).split("\n")
    .filter((line) => /^(\d+m[\d.]+s ?){2}$/.test(line));
  const [before = NaN, after = NaN] = [lines[1], lines[3]].map((line = "") =>
    [...line.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, m, s]) => sum + Number(m) * 60 + Number(s), 0)
  );
  return (after - before) * 1000 / 5;
}

/** In a process of its own, so that its memory is its own. */
async function benchPlan(): Promise<Figure[]> {
  const { seconds, peakMegabytes, hosts } = JSON.parse(
    await must([Deno.execPath(), "run", "-A", `${ROOT}/scripts/bench_plan.ts`]),
  );
  return [
    { what: `plan a fleet of ${hosts} hosts, all of them`, value: seconds, unit: "s", target: 4 },
    { what: "its memory", value: peakMegabytes, unit: "MB", target: 500 },
  ];
}

function renderTable(figures: readonly Figure[]): string {
  return figures.map(({ what, value, unit, target, detail }) => {
    const number = value.toFixed(unit === "s" ? 2 : 0).padStart(8);
    const aim = target === undefined ? "" : `  (target ${target} ${unit})`;
    return `${what.padEnd(52)} ${number} ${unit}${aim}${detail ? `\n    ${detail}` : ""}`;
  }).join("\n");
}

async function benchProduct(): Promise<void> {
  await ensurePackages();
  console.log(await must([Deno.execPath(), "task", "--quiet", "compile"], { cwd: ROOT }));
  const figures = [...await benchStart(), ...await benchPlan(), ...await benchPush()];
  const of = await source();
  console.log(`${of.date}, commit ${of.commit}\n${renderTable(figures)}`);
  await Deno.writeTextFile(REPORT, `${JSON.stringify({ ...of, figures }, null, 2)}\n`);
  console.log(`\nas JSON: ${REPORT}`);
}

function parseRounds(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected 1 to 99.");
}

const program = new Command("bench").description("figures of a push, a start and a plan").action(
  benchProduct,
);
program.command("data").description("figures of the networks between three virtual machines, beside others")
  .option("--rounds <n>", "measure everything so many times", parseRounds, 3)
  .option("--networks <names...>", "only these, of: " + CONTENDERS.map(({ name }) => name).join(", "))
  .option(
    "--measures <words>",
    "only what holds these words, of: " + MEASURES.map(({ name }) => name).join("; "),
  )
  .option("--json", "print JSON in place of tables", false)
  .action(benchData);
program.command("scale").description("one push of many hosts on a busy machine, and their verification")
  .option("--hosts <n>", "so many hosts", parseRounds, 24)
  .option("--busy <n>", "processes that take processor time beside the push", parseRounds, 2)
  .action(benchScale);
program.command("loss").description("packets that updates of a fleet lose, by pair")
  .action(async () => Deno.exit(await benchLoss()));
if (Deno.args[0] === "failover") Deno.exit(await failoverCommand(Deno.args.slice(1)));
await program.parseAsync(Deno.args, { from: "user" });
