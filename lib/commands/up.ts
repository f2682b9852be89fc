/**
 * `mobula up`, `undo`, `follow` and `host <verb>`: what systemd and the deployer call on a host. Effects: those of `lib/host`; the steps
 * go to the journal. Each verb loads its own module only: a push starts the program several times on every host.
 */
import { EXIT } from "../errors.ts";
import { hostContext } from "../host/local_context.ts";
import { writeLine } from "../ui/lines.ts";

/** Runs a verb; gives the exit code. */
export type HostVerb = (signal: AbortSignal) => Promise<number>;

/**
 * The verb that these arguments call: `["up"]`, `["host", "status"]`; undefined for arguments that the command line has to explain,
 * such as `["host"]` or `["up", "--help"]`.
 */
export function findHostVerb(args: readonly string[]): HostVerb | undefined {
  const [name = "", verb, ...more] = args;
  if (verb === undefined) return Object.hasOwn(UNIT_VERBS, name) ? UNIT_VERBS[name] : undefined;
  return name === "host" && !verb.startsWith("-") && more.length === 0 ? () => hostCommand(verb) : undefined;
}

const UNIT_VERBS: Readonly<Record<string, HostVerb>> = {
  up: upCommand,
  follow: followCommand,
  undo: undoCommand,
};

/** Does one thing a deployer asks for; gives the exit code. */
export async function hostCommand(verb: string): Promise<number> {
  const { readRequest, serveHostSession, serveHostVerb } = await import("../host/serve.ts");
  if (verb === "session") return await serveHostSession(Deno.stdin, writeLine);
  const { text, ended } = await readRequest(verb, Deno.stdin);
  return await serveHostVerb(verb, text, writeLine, ended);
}

/** Brings the network up; gives the exit code. */
export async function upCommand(): Promise<number> {
  const { up } = await import("../host/up.ts");
  await up(hostContext(writeLine));
  return EXIT.ok;
}

/** Follows the hosts to their new keys until the old ones are forgotten, or until it is to stop; gives the exit code. */
export async function followCommand(signal: AbortSignal): Promise<number> {
  const { follow } = await import("../host/follow.ts");
  await follow(hostContext(writeLine), signal);
  return EXIT.ok;
}

/** Takes back what nobody has confirmed; gives the exit code. */
export async function undoCommand(): Promise<number> {
  const { undo } = await import("../host/undo.ts");
  await undo(hostContext(writeLine));
  return EXIT.ok;
}
