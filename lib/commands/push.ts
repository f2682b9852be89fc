/**
 * `mobula push`: options → one push, its result → the screen. Effects: those of the push; writes to standard output.
 */
import { push } from "../deploy/push.ts";
import type { PushOptions } from "../deploy/run.ts";
import { renderReport, reportJson } from "../ui/report.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";

/** Pushes and reports; gives the exit code. */
export async function pushCommand(options: PushOptions & OutputOptions): Promise<number> {
  const result = await push(options, progressFor(options));
  writeLine(options.json ? JSON.stringify(reportJson(result), null, 2) : renderReport(result));
  return result.exitCode;
}
