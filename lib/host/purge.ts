/**
 * The packages that mobula has brought to a host: remembered before they are installed, removed on request. Asks and tells the
 * package manager.
 */
import {
  newPackages,
  removalStep,
  removedPackages,
  simulateRemovalStep,
  simulateStep,
} from "../distro/packages.ts";
import type { Distro } from "../distro/table.ts";
import type { Runner } from "../step.ts";
import { type Context, readJson, writeJson } from "./context.ts";
import { PACKAGES_FILE } from "./paths.ts";
import { hostDistro } from "./prepare.ts";
import { runSteps } from "./run_steps.ts";

/** What an uninstallation would do with the packages. */
export interface PurgePlan {
  readonly remove: readonly string[];
  /** Ours, but others need them, or an admin holds them. */
  readonly kept: readonly string[];
}

/** Writes down which packages an installation is about to bring, before it does: never one that is there already. */
export async function rememberPackages(
  runner: Runner,
  distro: Distro,
  packages: readonly string[],
): Promise<void> {
  const { code, stdout } = await runner.run(simulateStep(distro, packages));
  if (code !== 0) return;
  const known = await readJson<string[]>(runner, PACKAGES_FILE) ?? [];
  await writeJson(runner, PACKAGES_FILE, [...new Set([...known, ...newPackages(stdout)])].sort());
}

/** Which of our packages can go without taking another one along. */
export async function planPurge(runner: Runner): Promise<PurgePlan> {
  const ours = await readJson<string[]>(runner, PACKAGES_FILE) ?? [];
  const states = await packageStates(runner, ours);
  const there = ours.filter((name) => states.has(name));
  if (there.length === 0) return { remove: [], kept: [] };
  const distro = await hostDistro(runner);
  let remove = there.filter((name) => states.get(name) === "ii");
  // Each round takes away at least one, or is the last.
  while (remove.length > 0 && !await isClosed(runner, distro, remove, remove)) {
    const alone = await Promise.all(
      remove.map(async (name) => await isClosed(runner, distro, [name], remove)),
    );
    const next = remove.filter((_, index) => alone[index]);
    if (next.length === remove.length) next.length = 0;
    remove = next;
  }
  return { remove, kept: there.filter((name) => !remove.includes(name)) };
}

/** Removes the packages, if nothing has changed meanwhile that would take others along. */
export async function purge(packages: readonly string[], { runner, report }: Context): Promise<void> {
  if (packages.length === 0) return;
  const distro = await hostDistro(runner);
  if (await isClosed(runner, distro, packages, packages)) {
    await runSteps(runner, [removalStep(distro, packages)], report);
  } else report(`keep packages ${packages.join(" ")}: others would go with them`);
}

/** Those of the packages that are installed. */
export async function installedPackages(
  runner: Pick<Runner, "run">,
  packages: readonly string[],
): Promise<readonly string[]> {
  const states = await packageStates(runner, packages);
  return packages.filter((name) => states.has(name));
}

/** dpkg's two letters: what is wanted (`i`, or `h` for held), and that it is installed. */
async function packageStates(
  runner: Pick<Runner, "run">,
  packages: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (packages.length === 0) return new Map();
  const argv = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\\n", ...packages];
  const { stdout } = await runner.run({ title: "look for packages", argv });
  const lines = stdout.split("\n").map((line) => line.trim().split(/\s+/));
  return new Map(lines.flatMap(([name, state]) => name && state?.[1] === "i" ? [[name, state]] : []));
}

async function isClosed(
  runner: Runner,
  distro: Distro,
  packages: readonly string[],
  allowed: readonly string[],
): Promise<boolean> {
  const { code, stdout } = await runner.run(simulateRemovalStep(distro, packages));
  return code === 0 && removedPackages(stdout).every((name) => allowed.includes(name));
}
