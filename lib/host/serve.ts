/**
 * `mobula host <verb>`: one request as JSON on standard input, JSON lines as the answer (see protocol.ts).
 */
import { UsageError } from "../errors.ts";
import { type Context, parseConnection } from "./context.ts";
import { hostContext } from "./local_context.ts";
import type { ExtendRequest, HostEvent } from "./protocol.ts";

// deno-lint-ignore no-explicit-any
type Action = (request: any, context: Context) => Promise<unknown>;

/** The verbs and what they do. Each loads its own module: loading all of them costs more than most verbs do. */
const ACTIONS: Readonly<Record<string, () => Promise<Action>>> = {
  prepare: async () => (await import("./prepare.ts")).prepare,
  stage: async () => (await import("./stage.ts")).stage,
  activate: async () => (await import("./activate.ts")).activate,
  status: async () => (await import("./status.ts")).status,
  probe: async () => (await import("./probe.ts")).probe,
  confirm: async () => (await import("./confirm.ts")).confirm,
  extend: async () => {
    const { extend } = await import("./armed.ts");
    return async ({ seconds }: ExtendRequest, context) => ({ armed: await extend(seconds, context) });
  },
  announce: async () => (await import("./rotate.ts")).announce,
  "take-key": async () => (await import("./rotate.ts")).takeKey,
  forget: async () => (await import("./rotate.ts")).forget,
  earlier: async () => (await import("./earlier.ts")).earlier,
  uninstall: async () => (await import("./uninstall.ts")).uninstall,
  reboot: async () => (await import("./reboot.ts")).reboot,
  listen: async () => (await import("./listen.ts")).listen,
  inside: async () => (await import("./probe.ts")).askInside,
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

/** Serves many requests of one connection, see session.ts; returns the exit code. */
export async function serveHostSession(
  input: Pick<typeof Deno.stdin, "read">,
  write: (line: string) => void,
): Promise<number> {
  const { serveSession } = await import("./session.ts");
  await serveSession(input, (verb, request, report) => serve(verb, () => request, report), write);
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
    const action = await actionOf(verb)();
    tell({ event: "result", result: await action(request(), context) });
    return 0;
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    tell({ event: "error", kind: name, message });
    return 1;
  }
}

/** Loads what serves a verb; throws UsageError where there is none. */
export function actionOf(verb: string): () => Promise<Action> {
  const load = Object.hasOwn(ACTIONS, verb) ? ACTIONS[verb] : undefined;
  if (load) return load;
  throw new UsageError(
    `Cannot serve "${verb}": no such verb; expected session, ${Object.keys(ACTIONS).join(", ")}`,
  );
}

/** The request as text, and when standard input ends: `listen` takes one line and goes on until then, the others take all. */
export async function readRequest(
  verb: string,
  input: Pick<typeof Deno.stdin, "read" | "readable">,
): Promise<{ readonly text: string; readonly ended?: Promise<void> }> {
  if (verb !== "listen") return { text: await readText(input) };
  const { linesOf } = await import("./listen.ts");
  const lines = linesOf(input.readable);
  const text = (await lines.next()).value ?? "";
  const rest = async () => {
    while (!(await lines.next()).done);
  };
  return { text, ended: rest().catch(() => {}) };
}

/** All of it. Without streams: a start of the program has no time to lose, and loading them takes a tenth of it. */
async function readText(input: Pick<typeof Deno.stdin, "read">): Promise<string> {
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65_536);
  let text = "";
  for (let count; (count = await input.read(bytes)) !== null;) {
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
  }
  return text + decoder.decode();
}
