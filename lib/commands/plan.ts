/**
 * `mobula plan` and `push --dry-run`: what a push would do, compared with what is live. Effects: reads the hosts through SSH, changes
 * nothing; writes to standard output.
 */
import { PLAN_PHASES } from "../deploy/phases.ts";
import { push, type PushResult } from "../deploy/push.ts";
import type { PushOptions } from "../deploy/run.ts";
import { EXIT } from "../errors.ts";
import { isEmpty, planJson, renderPlan } from "../ui/plan.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";

type PlanOptions =
  & Omit<PushOptions, "reboot" | "keepKeys" | "reinstall">
  & Partial<Pick<PushOptions, "reboot" | "reinstall">>
  & OutputOptions;

/** Shows the plan; gives the exit code. */
export async function planCommand(options: PlanOptions): Promise<number> {
  const full = { reboot: true, reinstall: false, ...options, keepKeys: true };
  const result = await push(full, progressFor(options), PLAN_PHASES);
  const exitCode = exitCodeOf(result);
  writeLine(options.json ? JSON.stringify(planJson(result, exitCode), null, 2) : renderPlan(result));
  return exitCode;
}

function exitCodeOf({ push, exitCode }: PushResult): number {
  if (exitCode !== EXIT.ok) return exitCode;
  return push.hosts.every(({ preview }) => preview && isEmpty(preview)) ? EXIT.ok : EXIT.changes;
}
