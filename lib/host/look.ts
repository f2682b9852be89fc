/**
 * Looks at the live host: runs the read-only script and reads the files that the plan concerns.
 */
import { parseSeen } from "../net/seen.ts";
import { lookScript } from "../net/seen.ts";
import { type HostInput, wantedNetwork } from "../net/wanted.ts";
import { renderFiles } from "../render/files.ts";
import { ifupdownEdits } from "../render/ifupdown.ts";
import { MAIN_UNIT } from "../render/units.ts";
import type { Runner } from "../step.ts";
import { PENDING_DIR } from "./paths.ts";
import { ALL_RELOADS, type Reload, type SeenHost } from "./plan.ts";
import { runStep } from "./run_steps.ts";

/** What is live on the host, as far as the plan for `input` needs it. */
export async function lookAtHost(runner: Runner, input: HostInput): Promise<SeenHost> {
  const { sysctls, units } = wantedNetwork(input);
  const script = lookScript(sysctls, units);
  const [output, files, pending, enabled] = await Promise.all([
    runStep(runner, { title: "look at the network", argv: ["sh", "-s"], stdin: script }),
    readAll(runner, [...renderFiles(input), ...ifupdownEdits(input.baseline)].map(({ path }) => path)),
    readAll(runner, ALL_RELOADS.map((name) => `${PENDING_DIR}/${name}`)),
    runner.readFile(`/etc/systemd/system/multi-user.target.wants/${MAIN_UNIT}`),
  ]);
  return {
    network: parseSeen(output, units),
    files,
    pending: new Set(
      ALL_RELOADS.filter((name: Reload) => pending.get(`${PENDING_DIR}/${name}`) !== undefined),
    ),
    enabled: enabled !== undefined,
  };
}

async function readAll(runner: Runner, paths: readonly string[]): Promise<Map<string, string | undefined>> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await runner.readFile(path)] as const)));
}
