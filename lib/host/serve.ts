/**
 * `mobula host <verb>`: one request as JSON on standard input, JSON lines as the answer (see protocol.ts).
 */
import { UsageError } from "../errors.ts";
import { activate } from "./activate.ts";
import { extend } from "./armed.ts";
import { confirm } from "./confirm.ts";
import { type Context, parseConnection } from "./context.ts";
import { earlier } from "./earlier.ts";
import { hostContext } from "./local_context.ts";
import { linesOf, listen } from "./listen.ts";
import { prepare } from "./prepare.ts";
import { askInside, probe } from "./probe.ts";
import type { ExtendRequest, HostEvent } from "./protocol.ts";
import { reboot } from "./reboot.ts";
import { serveSession } from "./session.ts";
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
  listen,
  inside: askInside,
};

/** Serves one verb; returns the exit code. Throws UsageError for an unknown verb. */
export async function serveHostVerb(
  verb: string,
  stdin: string,
  write: (line: string) => void,
  ended?: Promise<void>,
): Promise<number> {
  actionOf(verb);
  const report = (event: HostEvent) => write(JSON.stringify(event));
  return await serve(verb, () => JSON.parse(stdin === "" ? "{}" : stdin), report, ended);
}

/** Serves many requests of one connection, see session.ts. */
export async function serveHostSession(
  input: ReadableStream<Uint8Array>,
  write: (line: string) => void,
): Promise<number> {
  await serveSession(linesOf(input), (verb, request, report) => serve(verb, () => request, report), write);
  return 0;
}

/** Runs one verb and reports what becomes of it; gives the exit code. */
async function serve(
  verb: string,
  request: () => unknown,
  report: (event: HostEvent) => void,
  ended?: Promise<void>,
): Promise<number> {
  const tell = (event: HostEvent) => {
    try {
      report(event);
    } catch {
      // Whoever asked has gone, or lost the connection: what was begun is brought to its end all the same.
    }
  };
  try {
    const connection = parseConnection(Deno.env.get("SSH_CONNECTION"));
    const onStep = (title: string) => tell({ event: "step", title });
    const context = hostContext(onStep, { ended, connection });
    tell({ event: "result", result: await actionOf(verb)(request(), context) });
    return 0;
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    tell({ event: "error", kind: name, message });
    return 1;
  }
}

/** What serves a verb; throws UsageError where there is none. */
export function actionOf(verb: string): Action {
  const action = Object.hasOwn(ACTIONS, verb) ? ACTIONS[verb] : undefined;
  if (action) return action;
  throw new UsageError(
    `Cannot serve "${verb}": no such verb; expected session, ${Object.keys(ACTIONS).join(", ")}`,
  );
}

/** The request as text, and when standard input ends: `listen` takes one line and goes on until then, the others take all. */
export async function readRequest(
  verb: string,
  input: ReadableStream<Uint8Array>,
): Promise<{ readonly text: string; readonly ended?: Promise<void> }> {
  if (verb !== "listen") return { text: await new Response(input).text() };
  const lines = linesOf(input);
  const text = (await lines.next()).value ?? "";
  const rest = async () => {
    while (!(await lines.next()).done);
  };
  return { text, ended: rest().catch(() => {}) };
}
