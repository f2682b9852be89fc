/**
 * Many injections, one after the other, and the report about them. Changes the lab, writes lines through what it is given.
 */
import type { Outcome } from "./inject.ts";
import { inject, record } from "./inject.ts";
import { type Injection, injectionsOf, nameOf, pointsOf } from "./points.ts";
import { type Scenario, VICTIM } from "./scenarios.ts";
import { type ChaosStage, replaceVictim } from "./stage.ts";

/** Records every scenario in peace, and gives all that could be struck. */
export async function listInjections(
  stage: ChaosStage,
  scenarios: readonly Scenario[],
  write: (line: string) => void = () => {},
): Promise<Injection[]> {
  const all: Injection[] = [];
  for (const scenario of scenarios) {
    const points = pointsOf(await record(stage, scenario), VICTIM);
    const injections = injectionsOf(scenario.name, points, scenario.faults);
    write(
      `recorded ${scenario.name} (${scenario.title}): ${points.length} points, ${injections.length} injections`,
    );
    all.push(...injections);
  }
  return all;
}

/** Where the report goes, and how long injections begin. */
export interface InjectOptions {
  readonly write: (line: string) => void;
  /** `Date.now()` scale. */
  readonly deadline?: number;
  readonly onOutcome?: (outcome: Outcome) => Promise<void>;
}

/** Carries them out until they, or the time, are over; a victim that cannot be repaired is replaced. */
export async function injectAll(
  stage: ChaosStage,
  injections: readonly Injection[],
  { write, deadline = Infinity, onOutcome }: InjectOptions,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [index, injection] of injections.entries()) {
    if (Date.now() > deadline) break;
    const outcome = await inject(stage, injection).catch((error) => notEvenBegun(injection, error));
    outcomes.push(outcome);
    await onOutcome?.(outcome);
    write(`${index + 1}/${injections.length} ${renderOutcome(outcome)}`);
    if (outcome.convergedBy === undefined) await replaceVictim(stage);
  }
  return outcomes;
}

/** What the injection before has left may show only now. */
function notEvenBegun(injection: Injection, error: unknown): Outcome {
  const message = error instanceof Error ? error.message : String(error);
  return {
    injection,
    reached: false,
    sshSilence: 0,
    lockedOut: false,
    bystanders: { sent: 0, lost: 0 },
    seconds: 0,
    problems: [message],
  };
}

/** One line, and one more for each problem. */
export function renderOutcome(outcome: Outcome): string {
  const { injection, reached, sshSilence, deployer, said, convergedBy, bystanders, seconds, problems } =
    outcome;
  const seen = [
    ...reached ? [] : ["not reached"],
    `SSH silent ${(sshSilence / 1000).toFixed(1)} s`,
    ...deployer === undefined ? [] : [`deployer ended with ${deployer}`],
    ...said === undefined ? [] : [`said "${said.slice(0, 160)}"`],
    convergedBy === undefined ? "DID NOT CONVERGE" : `converged by ${convergedBy}`,
    `others lost ${bystanders.lost} of ${bystanders.sent}`,
    `${seconds.toFixed(0)} s`,
  ];
  const head = `${problems.length === 0 ? "✓" : "✗"} ${nameOf(injection)}: ${seen.join(", ")}`;
  return [head, ...problems.map((problem) => `  problem: ${problem}`)].join("\n");
}

/** The sum of it. */
export function renderSummary(outcomes: readonly Outcome[]): string {
  const struck = outcomes.filter(({ reached }) => reached);
  const count = (pick: (outcome: Outcome) => boolean) => struck.filter(pick).length;
  const silence = Math.max(0, ...struck.map(({ sshSilence }) => sshSilence)) / 1000;
  return [
    `${struck.length} injected, ${count(({ lockedOut }) => lockedOut)} locked out; ` +
    `${count(({ convergedBy }) => convergedBy === "push")} converged by the next push, ` +
    `${count(({ convergedBy }) => convergedBy === "push --reinstall")} by --reinstall, ` +
    `${count(({ convergedBy }) => convergedBy === undefined)} did not`,
    `longest silence of SSH ${silence.toFixed(1)} s; the other two hosts lost ` +
    `${struck.reduce((sum, { bystanders }) => sum + bystanders.lost, 0)} of ` +
    `${struck.reduce((sum, { bystanders }) => sum + bystanders.sent, 0)} packets; ` +
    `${outcomes.length - struck.length} not reached, ${
      count(({ problems }) => problems.length > 0)
    } with problems`,
  ].join("\n");
}
