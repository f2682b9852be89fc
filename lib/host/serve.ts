/**
 * `mobula host <verb>`: one request as JSON on standard input, JSON lines as the answer (see protocol.ts).
 */
import { UsageError } from "../errors.ts";
import { activate } from "./activate.ts";
import { extend } from "./armed.ts";
import { confirm } from "./confirm.ts";
import type { Context } from "./context.ts";
import { earlier } from "./earlier.ts";
import { LocalRunner } from "./local_runner.ts";
import { prepare } from "./prepare.ts";
import { probe, resolveNames } from "./probe.ts";
import type { ExtendRequest, HostEvent, NameTarget } from "./protocol.ts";
import { reboot } from "./reboot.ts";
import { announce, forget, takeKey } from "./rotate.ts";
import { stage } from "./stage.ts";
import { status } from "./status.ts";
import { uninstall } from "./uninstall.ts";

// deno-lint-ignore no-explicit-any
type Action = (request: any, context: Context) => Promise<unknown>;

/** The verbs and what they do. */
const ACTIONS: Readonly<Record<string, Action>> = {
  prepare,
  stage,
  activate,
  status,
  probe,
  confirm,
  extend: async ({ seconds }: ExtendRequest, context) => ({ armed: await extend(seconds, context) }),
  announce,
  "take-key": takeKey,
  forget,
  earlier,
  uninstall,
  reboot,
  resolve: ({ names, server }: { names: NameTarget[]; server: string }) => resolveNames(names, server),
};

/** Serves one verb; returns the exit code. Throws UsageError for an unknown verb. */
export async function serveHostVerb(
  verb: string,
  stdin: string,
  write: (line: string) => void,
): Promise<number> {
  const action = Object.hasOwn(ACTIONS, verb) ? ACTIONS[verb] : undefined;
  if (!action) {
    throw new UsageError(`Cannot serve "${verb}": no such verb; expected ${Object.keys(ACTIONS).join(", ")}`);
  }
  const tell = (event: HostEvent) => write(JSON.stringify(event));
  try {
    const context: Context = { runner: new LocalRunner(), report: (title) => tell({ event: "step", title }) };
    tell({ event: "result", result: await action(JSON.parse(stdin === "" ? "{}" : stdin), context) });
    return 0;
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    tell({ event: "error", kind: name, message });
    return 1;
  }
}
