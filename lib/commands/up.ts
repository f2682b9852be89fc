/**
 * `mobula up`, `undo` and `follow`: what systemd runs. Effects: those of `lib/host/up.ts`, `undo.ts` and `follow.ts`; the steps go to the journal.
 */
import { EXIT } from "../errors.ts";
import { follow } from "../host/follow.ts";
import { hostContext } from "../host/local_context.ts";
import { undo } from "../host/undo.ts";
import { up } from "../host/up.ts";
import { writeLine } from "../ui/terminal.ts";

/** Brings the network up; gives the exit code. */
export async function upCommand(): Promise<number> {
  await up(hostContext(writeLine));
  return EXIT.ok;
}

/** Follows the hosts to their new keys until the old ones are forgotten, or until it is to stop; gives the exit code. */
export async function followCommand(signal: AbortSignal): Promise<number> {
  await follow(hostContext(writeLine), signal);
  return EXIT.ok;
}

/** Takes back what nobody has confirmed; gives the exit code. */
export async function undoCommand(): Promise<number> {
  await undo(hostContext(writeLine));
  return EXIT.ok;
}
