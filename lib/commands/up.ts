/**
 * `mobula up`: what systemd runs at boot. Effects: those of `lib/host/up.ts`; the steps go to the journal.
 */
import { EXIT } from "../errors.ts";
import { LocalRunner } from "../host/local_runner.ts";
import { up } from "../host/up.ts";
import { writeLine } from "../ui/terminal.ts";

/** Brings the network up; gives the exit code. */
export async function upCommand(): Promise<number> {
  await up({ runner: new LocalRunner(), report: writeLine });
  return EXIT.ok;
}
