/**
 * `deno task chaos`: strikes a host at every step of push and of the installation, one after the other, and tells what was seen. Needs
 * root; makes and removes a lab, or keeps it with MOBULA_LAB_KEEP=1.
 */
import { Command, InvalidArgumentError } from "@commander-js/extra-typings";
import { type Injection, nameOf, shuffle, spread } from "../tests/chaos/points.ts";
import type { Outcome } from "../tests/chaos/inject.ts";
import { appendProgress, leftOf, readProgress, renderProgress } from "../tests/chaos/progress.ts";
import { injectAll, listInjections, renderSummary } from "../tests/chaos/run.ts";
import { SCENARIOS } from "../tests/chaos/scenarios.ts";
import { CHAOS_HOSTS, prepareChaos } from "../tests/chaos/stage.ts";
import { type HostOptions, type Lab, openLab, up, withLab } from "../tests/lab/lab.ts";
import { loadState } from "../tests/lab/state.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../tests/lab/packages.ts";

const NAMES = SCENARIOS.map(({ name }) => name).join(", ");

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Expected a whole number.");
  return Number(text);
}

const options = new Command("chaos")
  .description("strikes a host at every step of push and of the installation")
  .option("--scenario <names...>", `only these: ${NAMES}`)
  .option("--filter <text>", "only injections whose line in the list contains this, or matches /this/")
  .option("--list", "record the scenarios, list the injections, strike nothing", false)
  .option("--seed <n>", "mix the list; the same number gives the same order, 0 none", whole, 0)
  .option("--count <n>", "only so many, spread over the faults", whole)
  .option("--minutes <n>", "begin no injection after so many minutes", whole)
  .option("--recording <file>", "keep the list of injections there, and use it when it is there")
  .option("--resume <file>", "leave out what this file says is done, and append what is done now")
  .option("--save <file>", "write the chosen ones there")
  .option("--lab <name>", "name of the lab", "chaos")
  .parse(["deno", "chaos", ...Deno.args])
  .opts();

function chosen(all: readonly Injection[]): Injection[] {
  const { filter, seed, count } = options;
  const pattern = filter !== undefined && /^\/.*\/$/.test(filter)
    ? new RegExp(filter.slice(1, -1))
    : undefined;
  const fits = (name: string) => filter === undefined || (pattern?.test(name) ?? name.includes(filter));
  const some = all.filter((injection) => fits(nameOf(injection)));
  return count === undefined ? shuffle(some, seed) : spread(some, count, seed);
}

async function recorded(make: () => Promise<Injection[]>): Promise<Injection[]> {
  const { recording } = options;
  if (recording === undefined) return await make();
  const known = await Deno.readTextFile(recording).catch(() => undefined);
  if (known !== undefined) return JSON.parse(known);
  const made = await make();
  await writeInjections(recording, made);
  return made;
}

async function writeInjections(file: string, injections: readonly Injection[]): Promise<void> {
  await Deno.writeTextFile(file, JSON.stringify(injections, null, 2) + "\n");
}

const write = (line: string) => console.log(line);
const deadline = options.minutes === undefined ? Infinity : Date.now() + options.minutes * 60_000;
await ensurePackages(MACHINE_PACKAGES);
const keep = Deno.env.get("MOBULA_LAB_KEEP") === "1";
const kept = async <T>(name: string, hosts: readonly HostOptions[], use: (lab: Lab) => Promise<T>) =>
  await use(loadState(name) === undefined ? await up(name, hosts) : openLab(name));
const ok = await (keep ? kept : withLab)(options.lab, CHAOS_HOSTS, async (lab) => {
  const stage = await prepareChaos(lab);
  const scenarios = SCENARIOS.filter(({ name }) => options.scenario?.includes(name) ?? true);
  const all = await recorded(() => listInjections(stage, scenarios, write));
  const { resume } = options;
  const before = resume === undefined ? [] : await readProgress(resume);
  const injections = chosen(leftOf(all, before));
  write(`${all.length} injections in the list, ${injections.length} chosen`);
  if (options.save !== undefined) await writeInjections(options.save, injections);
  if (options.list) {
    for (const injection of injections) write(nameOf(injection));
    return true;
  }
  const onOutcome = async (outcome: Outcome) => {
    if (resume !== undefined) await appendProgress(resume, outcome);
  };
  const outcomes = await injectAll(stage, injections, { write, deadline, onOutcome });
  write(renderSummary(outcomes));
  if (resume !== undefined) write(renderProgress(all, await readProgress(resume)));
  return outcomes.every(({ problems }) => problems.length === 0);
});
Deno.exit(ok ? 0 : 1);
