/**
 * `deno task test [suite …] [--all] [--filter NAME]`: runs the suites one after the other and counts their tests. Starts processes, writes a
 * temporary folder, installs Debian packages that tests need.
 */
import { Command } from "@commander-js/extra-typings";
import { ensureImage } from "../tests/lab/images.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../tests/lab/packages.ts";
import { VM_PACKAGES } from "../tests/vm/qemu.ts";
import { busySeconds } from "./busy.ts";
import { type Counts, readCounts, readFailures, renderFailure } from "./junit.ts";
import { machinesLeftOut } from "./machines_left_out.ts";

/** One run of `deno test`, or a check that is no test. */
interface Suite {
  readonly name: string;
  /** What it proves, for people. */
  readonly title: string;
  /** Arguments of `deno`; for test suites those of `deno test` without reporting and filter. */
  readonly deno: readonly string[];
  readonly counts: boolean;
  /** How many files run at a time where `--parallel` is among the arguments; default: one for each processor. */
  readonly jobs?: number;
  /** The same where everything is to be tested, however long it takes. */
  readonly more?: readonly string[];
}

/** Pure code is tested without permission to do anything: a stray effect fails by itself. */
const PURE = ["tests/config", "tests/distro", "tests/net", "tests/render", "tests/golden", "tests/pure"];

/** Labs at a time: most of a lab's life is waiting. */
const LABS = 3;

/** All suites, quick ones first. */
const SUITES: readonly Suite[] = [
  { name: "fmt", title: "format", deno: ["fmt", "--check", "--quiet"], counts: false },
  { name: "lint", title: "lint", deno: ["lint", "--quiet"], counts: false },
  { name: "check", title: "types", deno: ["check", "--quiet", "main.ts", "scripts", "tests"], counts: false },
  {
    name: "pure",
    title: "pure code, golden files, properties",
    deno: ["--no-prompt", "--allow-read", "--allow-run=/usr/bin/wg", "--parallel", ...PURE],
    counts: true,
  },
  {
    name: "unit",
    title: "code with effects, on this machine",
    deno: ["-A", "tests/host", "tests/deploy", "tests/commands"],
    counts: true,
  },
  { name: "executable", title: "the executable, both kinds", deno: ["-A", "tests/executable"], counts: true },
  {
    name: "lab",
    title: "real hosts in containers",
    deno: ["-A", "--parallel", "--ignore=tests/lab/all,tests/lab/timed", "tests/lab"],
    jobs: LABS,
    counts: true,
    more: ["-A", "--parallel", "--ignore=tests/lab/timed", "tests/lab"],
  },
  {
    name: "vm",
    title: "real kernels in virtual machines",
    deno: ["-A", "--ignore=tests/vm/all", "tests/vm"],
    counts: true,
    more: ["-A", "tests/vm"],
  },
  {
    name: "timed",
    title: "what a busy machine would spoil: losses, gaps, strikes",
    deno: ["-A", "tests/lab/timed"],
    counts: true,
  },
];

/** How a suite ended. */
interface Row {
  readonly suite: Suite;
  readonly ok: boolean;
  readonly counts?: Counts;
  readonly seconds: number;
  /** The part of all processors' time, 0 to 1, that was not idle meanwhile. */
  readonly busy: number;
}

interface Options {
  readonly filter?: string;
  readonly all?: boolean;
}

async function main(names: readonly string[], { filter, all }: Options): Promise<number> {
  const unknown = names.filter((name) => !SUITES.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    console.error(
      `Cannot test ${unknown.join(", ")}: no such suite; expected ${
        SUITES.map(({ name }) => name).join(", ")
      }`,
    );
    return 2;
  }
  const left = names.length > 0 ? undefined : machinesLeftOut(Deno.env.get("MOBULA_TEST_VM"), hasQemu());
  const suites = SUITES.filter(({ name, counts }) =>
    names.length > 0
      ? names.includes(name)
      : (counts || filter === undefined) && !(name === "vm" && left !== undefined)
  ).map((suite) => all ? { ...suite, deno: suite.more ?? suite.deno } : suite);
  const machines = suites.some(({ name }) => name === "vm");
  // Nothing is left out for want of a program: wg, and the sshd of a lab image. Later on, a test may be installing something.
  if (suites.some(({ counts }) => counts)) {
    await ensurePackages(machines ? [...MACHINE_PACKAGES, ...VM_PACKAGES] : MACHINE_PACKAGES);
    await ensureImage("bookworm", "bare");
  }
  const rows: Row[] = [];
  const failures: string[] = [];
  let images: Promise<unknown> | undefined;
  for (const suite of suites) {
    if (suite.counts && machines) images ??= makeMachineImages();
    // What takes all processors, or is timed, has them for itself.
    if (suite.name === "lab" || suite.name === "timed" || suite.name === "vm") await images;
    console.log(`\n== ${suite.name}: ${suite.title}`);
    const before = [performance.now(), await busySeconds()] as const;
    const { ok, report } = !suite.counts
      ? { ok: await runDeno(suite.deno), report: undefined }
      : await runTests(suite, filter);
    const counts = report === undefined ? undefined : readCounts(report);
    const seconds = (performance.now() - before[0]) / 1000;
    const busy = (await busySeconds() - before[1]) / seconds / navigator.hardwareConcurrency;
    rows.push({ suite, ok, counts, seconds, busy });
    failures.push(...readFailures(report ?? "").map(renderFailure));
    // Code that does not type-check need not be tried.
    if (!ok && !suite.counts) break;
  }
  await images;
  // Once more, in short: a long run has said much since then.
  console.log(failures.map((failure) => `\n${failure}`).join(""));
  console.log(`${"".padEnd(18)}   time  processors busy`);
  for (const { suite: { name }, ok, counts, seconds, busy } of rows) {
    const tests = counts ? `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped` : "";
    const share = `${(busy * 100).toFixed(0).padStart(3)} %`;
    console.log(
      `${ok ? "ok    " : "FAILED"} ${name.padEnd(11)} ${
        seconds.toFixed(0).padStart(4)
      } s  ${share}  ${tests}`,
    );
  }
  if (left !== undefined) console.log(`not run: vm, ${left}`);
  const sum = (pick: (counts: Counts) => number) =>
    rows.reduce((all, { counts }) => all + (counts ? pick(counts) : 0), 0);
  const skipped = sum(({ skipped }) => skipped);
  const broken = rows.filter(({ ok, counts }) => !ok && !(counts && counts.failed > 0)).length;
  console.log(
    `\n${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed) + broken} failed` +
      (skipped > 0 ? `, ${skipped} skipped` : ""),
  );
  return rows.every(({ ok }) => ok) ? 0 : 1;
}

function hasQemu(): boolean {
  return ["/usr/bin", "/usr/local/bin"].some((folder) => exists(`${folder}/qemu-system-x86_64`));
}

/** Begins with what the virtual machines' tests would begin with, behind tests that mostly wait; should it fail, they will say so. */
async function makeMachineImages(): Promise<void> {
  const args = ["-n", "19", Deno.execPath(), "run", "-A", `${import.meta.dirname}/machine_images.ts`];
  await new Deno.Command("nice", { args, stdin: "null" }).spawn().status;
}

async function runDeno(args: readonly string[], jobs?: number): Promise<boolean> {
  const env: Record<string, string> = jobs === undefined
    ? {}
    : { DENO_JOBS: String(jobs), MOBULA_LAB_BUSY: "1" };
  const { success } = await new Deno.Command(Deno.execPath(), { args: [...args], env, stdin: "null" }).spawn()
    .status;
  return success;
}

/** What a run of tests ended with; the report is JUnit's. */
interface Tested {
  readonly ok: boolean;
  readonly report: string;
}

async function runTests(suite: Suite, filter: string | undefined): Promise<Tested> {
  const report = await Deno.makeTempFile({ prefix: "mobula-tests-", suffix: ".xml" });
  try {
    const ok = await runDeno(testArguments(suite, filter, report), suite.jobs);
    return { ok, report: await Deno.readTextFile(report) };
  } finally {
    await Deno.remove(report);
  }
}

function testArguments({ deno }: Suite, filter: string | undefined, report: string): string[] {
  return [
    ...["test", "--no-check", `--junit-path=${report}`],
    ...(filter ? [`--filter=${filter}`] : []),
    ...deno,
  ];
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

const program = new Command("test")
  .description("runs the project's tests; all of them unless suites are named")
  .argument("[suites...]", SUITES.map(({ name, title }) => `${name}: ${title}`).join("; "))
  .option("--filter <name>", "only tests whose name contains this, or matches /this/")
  .option("--all", "also the tests that take very long, of the folders named all")
  .action(async (names, options) => Deno.exit(await main(names, options)));
await program.parseAsync(Deno.args, { from: "user" });
