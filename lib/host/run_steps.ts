/**
 * Runs a list of steps in order through a Runner and stops at the first that fails, unless it may.
 */
import { CommandError } from "../errors.ts";
import { SET_SYSCTLS } from "../net/steps.ts";
import type { Runner, Step } from "../step.ts";

/** Told of every step as it begins. */
export type Report = (title: string) => void;

/** Runs the steps; throws CommandError for the first that fails and must not. Neighbouring `ip` commands, and neighbouring sysctls, share one process. */
export async function runSteps(runner: Runner, steps: readonly Step[], report: Report): Promise<void> {
  for (const group of groupSteps(steps)) {
    for (const step of group) report(step.title);
    await runGroup(runner, group).catch((error) => {
      if (!group[0]?.mayFail || !(error instanceof CommandError)) throw error;
      report(error.message);
    });
  }
}

/** Runs one command; throws CommandError unless it ends with 0. */
export async function runStep(runner: Pick<Runner, "run">, step: Step): Promise<string> {
  const { code, stdout, stderr } = await runner.run(step);
  if (code !== 0) throw new CommandError(step.title, step.argv, code, stderr || stdout);
  return stdout;
}

async function runGroup(runner: Runner, group: readonly Step[]): Promise<void> {
  const [first] = group;
  if (!first) return;
  if (group.length === 1) {
    await runStep(runner, first);
    return;
  }
  if (isSysctl(first)) {
    await runStep(runner, sysctlsOf(first, group));
    return;
  }
  const batch = batchOf(group);
  const { code, stderr } = await runner.run(batch);
  if (code === 0) return;
  // "Command failed -:3" names the line; where a word is wrong or the namespace is not there, `ip` names none.
  const line = Number(/Command failed -:(\d+)/.exec(stderr)?.[1]);
  const failed = group[line - 1] ?? batch;
  throw new CommandError(failed.title, failed.argv, code, stderr);
}

/** ip(8), -batch: one command a line; none of our words holds a space. */
function batchOf(group: readonly Step[]): Step {
  const [first] = group;
  return {
    title: group.map(({ title }) => title).join(", "),
    argv: ["ip", "-batch", "-"],
    stdin: group.map(({ argv }) => `${argv.slice(1).join(" ")}\n`).join(""),
    ...(first?.namespace ? { namespace: first.namespace } : {}),
  };
}

/** All settings by one shell, whose own message names the file that it cannot write. */
function sysctlsOf(first: Step, group: readonly Step[]): Step {
  return {
    ...first,
    title: group.map(({ title }) => title).join(", "),
    argv: [...SET_SYSCTLS, ...group.flatMap(({ argv }) => argv.slice(SET_SYSCTLS.length))],
  };
}

function groupSteps(steps: readonly Step[]): Step[][] {
  const groups: Step[][] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (last?.[0] && shareProcess(last[0], step)) last.push(step);
    else groups.push([step]);
  }
  return groups;
}

function shareProcess(a: Step, b: Step): boolean {
  if (a.namespace !== b.namespace) return false;
  return batchable(a) && batchable(b) || isSysctl(a) && isSysctl(b);
}

function isSysctl({ argv }: Step): boolean {
  return SET_SYSCTLS.every((word, index) => argv[index] === word);
}

/** Options like -6 and the namespaces' own commands do not work in a batch, nor does what may fail alone. */
function batchable({ argv, stdin, mayFail }: Step): boolean {
  return argv[0] === "ip" && stdin === undefined && !mayFail && !argv[1]?.startsWith("-") &&
    argv[1] !== "netns";
}
