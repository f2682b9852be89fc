/**
 * `mobula uninstall`: gives the hosts, or with `--local` this very one, their own network back. Effects: those of the phases or of
 * the unit that does it; writes to standard output.
 */
import { push, type PushResult } from "../deploy/push.ts";
import { lockedHere } from "../deploy/push_lock.ts";
import type { PushOptions } from "../deploy/run.ts";
import { UNINSTALL_PHASES } from "../deploy/uninstall.ts";
import { EXIT, HostError } from "../errors.ts";
import type { Baseline } from "../facts.ts";
import { BASELINE_SCRIPT, parseBaseline } from "../host/baseline.ts";
import { type Clock, readJson } from "../host/context.ts";
import { hostContext } from "../host/local_context.ts";
import { BASELINE_FILE, INSTALL_DIR } from "../host/paths.ts";
import { installedPackages } from "../host/purge.ts";
import { runStep } from "../host/run_steps.ts";
import { uninstall } from "../host/uninstall.ts";
import { baselineDifferences } from "../net/down.ts";
import { reportJson } from "../ui/report.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";
import { copyOwnExecutable } from "./install.ts";

type UninstallOptions = Omit<PushOptions, "reboot" | "keepKeys" | "reinstall"> & OutputOptions;

/** Uninstalls and reports; gives the exit code. */
export async function uninstallCommand(options: UninstallOptions): Promise<number> {
  const full = { ...options, reboot: false, keepKeys: true, reinstall: false };
  const result = await push(full, progressFor(options), UNINSTALL_PHASES);
  writeLine(options.json ? JSON.stringify(reportJson(result), null, 2) : render(result));
  return result.exitCode;
}

function render({ push }: PushResult): string {
  return push.hosts.map(({ host, failure, notes, bare }) => {
    const said = failure
      ? `FAILED in ${failure.phase}: ${failure.message}`
      : bare
      ? "nothing to remove"
      : "uninstalled";
    return [`${host.hostname} (id ${host.id}): ${said}`, ...notes.map((note) => `    ${note}`)].join("\n");
  }).join("\n");
}

/** Milliseconds. */
const PATIENCE = 180_000;
const PURGE_PATIENCE = 900_000;

/** The same on this host; the unit goes on should the terminal be lost. */
export async function uninstallHere(options: OutputOptions & { readonly purge?: boolean }): Promise<number> {
  if (!await isThere(INSTALL_DIR)) {
    writeLine(options.json ? JSON.stringify({ ok: true, differences: [] }) : "There is nothing to remove.");
    return EXIT.ok;
  }
  const progress = progressFor({ ...options, verbose: true });
  const report = (title: string) => progress.step("this host", title);
  Deno.addSignalListener("SIGHUP", () => {});
  const context = hostContext(report);
  const { runner, clock } = context;
  const baseline = await readJson<Baseline>(runner, BASELINE_FILE);
  const { removing, kept } = await lockedHere(
    { fleet: "--local", verb: "uninstall", report },
    async (lock) => {
      await copyOwnExecutable();
      // The unit goes on without us, and takes the lock away with all the rest.
      lock.leave();
      const started = await uninstall({ purge: options.purge }, context);
      report("give the network back");
      await awaitRemoval(clock, options);
      return started;
    },
  );
  await progress.end();
  const output = baseline &&
    await runStep(runner, { title: "read the network", argv: ["sh", "-s"], stdin: BASELINE_SCRIPT });
  const differences = baseline && output !== undefined
    ? baselineDifferences(baseline, parseBaseline(output, baseline.sshPort))
    : [];
  const stay = [...kept, ...await installedPackages(runner, removing)];
  const gone = removing.filter((name) => !stay.includes(name));
  writeLine(
    options.json ? JSON.stringify({ ok: true, differences, packages_removed: gone, packages_kept: stay }) : [
      "Uninstalled.",
      ...gone.length > 0 ? [`Removed packages: ${gone.join(", ")}`] : [],
      ...stay.length > 0 ? [`Kept packages: ${stay.join(", ")}`] : [],
      ...differences.map((difference) => `Differs from before: ${difference}`),
    ].join("\n"),
  );
  return EXIT.ok;
}

async function awaitRemoval(clock: Clock, options: { readonly purge?: boolean }): Promise<void> {
  const deadline = clock.now() + (options.purge ? PURGE_PATIENCE : PATIENCE);
  while (await isThere(INSTALL_DIR)) {
    if (clock.now() > deadline) {
      throw new HostError(
        `Cannot finish the uninstallation: ${INSTALL_DIR} is still there after ${
          PATIENCE / 1000
        } s; expected nothing ` +
          'of mobula. See "journalctl -u mobula-rollback", then uninstall again',
      );
    }
    await clock.pause(300);
  }
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
