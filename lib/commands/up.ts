/**
 * `mobula up` and `mobula undo`: what systemd runs. Effects: those of `lib/host/up.ts` and `undo.ts`; the steps go to the journal.
 */
import { EXIT } from "../errors.ts";
import { LocalRunner } from "../host/local_runner.ts";
import { undo } from "../host/undo.ts";
import { up } from "../host/up.ts";
import { writeLine } from "../ui/terminal.ts";

/** Brings the network up; gives the exit code. */
export async function upCommand(): Promise<number> {
  await up({ runner: new LocalRunner(), report: writeLine });
  return EXIT.ok;
}

/** Takes back what nobody has confirmed; gives the exit code. */
export async function undoCommand(): Promise<number> {
  await undo({ runner: new LocalRunner(), report: writeLine });
  return EXIT.ok;
}
