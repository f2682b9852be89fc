/**
 * `mobula rollback`: options → every host back one generation, its result → the screen. Effects: those of a push; writes to standard
 * output.
 */
import { ROLLBACK_PHASES } from "../deploy/phases.ts";
import { push } from "../deploy/push.ts";
import type { PushOptions } from "../deploy/run.ts";
import { renderReport, reportJson } from "../ui/report.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";

type RollbackOptions = Omit<PushOptions, "reboot" | "keepKeys" | "reinstall"> & OutputOptions;

/** Goes back and reports; gives the exit code. */
export async function rollbackCommand(options: RollbackOptions): Promise<number> {
  const full = { ...options, reboot: false, keepKeys: true, reinstall: false };
  const result = await push(full, progressFor(options), ROLLBACK_PHASES);
  writeLine(options.json ? JSON.stringify(reportJson(result), null, 2) : renderReport(result));
  return result.exitCode;
}
