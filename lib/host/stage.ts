/**
 * Stages a generation: renders every file, lets each be checked by its own tool, and writes the generation's folder. The running
 * network is not touched.
 */
import { HostError } from "../errors.ts";
import type { Baseline, Capabilities } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { parseHostConfig } from "../host_config.ts";
import type { Loaded } from "../net/network.ts";
import { type HostInput, wantedFirewall } from "../net/wanted.ts";
import { ETC_DIR } from "../render/dnsmasq.ts";
import { renderFiles } from "../render/files.ts";
import type { Runner, Step, WantedFile } from "../step.ts";
import {
  baselineCopy,
  type Context,
  currentGeneration,
  generationDir,
  listGenerations,
  readJson,
  writeJson,
} from "./context.ts";
import { BASELINE_FILE, CAPABILITIES_FILE, CURRENT_LINK } from "./paths.ts";
import type { StageRequest, StageResult } from "./protocol.ts";
import { runStep } from "./run_steps.ts";

/** The generation's folder holds config.json and files.json, the list of all rendered files. */
export async function stage(request: StageRequest, { runner, report }: Context): Promise<StageResult> {
  const config = parseHostConfig(request.config);
  const [baseline, capabilities] = await Promise.all([
    readJson<Baseline>(runner, BASELINE_FILE),
    readJson<Capabilities>(runner, CAPABILITIES_FILE),
  ]);
  if (!baseline || !capabilities) {
    throw new HostError(
      "Cannot stage: no baseline or capabilities below /opt/mobula; expected `prepare` to have run",
    );
  }
  const input: HostInput = { config, baseline, capabilities };
  const rendered = generationFiles(renderFiles(input), wantedFirewall(input));
  const current = await currentGeneration(runner);
  const changed = await changedPaths(runner, config, rendered);
  if (current > 0 && changed.length === 0) return { generation: current, changed: false, files: [] };
  report("check the rendered files");
  await checkFiles(runner, rendered.filter(({ path }) => changed.includes(path)));
  // Never the current one, also where the generations cannot be listed.
  const generation = Math.max(current, ...await listGenerations(runner)) + 1;
  report(`write generation ${generation}`);
  await writeJson(runner, `${generationDir(generation)}/files.json`, rendered);
  // A boot that finds the other one broken still knows the host's addresses.
  await writeJson(runner, baselineCopy(generationDir(generation)), baseline);
  await writeJson(runner, `${generationDir(generation)}/config.json`, config);
  return { generation, changed: true, files: changed };
}

/** The firewall is loaded from memory, but belongs to what a generation is made of. */
export function generationFiles(files: readonly WantedFile[], firewall: Loaded): WantedFile[] {
  return [...files, { path: `${ETC_DIR}/nftables.nft`, content: firewall.text }];
}

/** What a generation made of this would hold that the current one does not. */
export async function changedPaths(
  runner: Runner,
  config: HostConfig,
  rendered: readonly WantedFile[],
): Promise<string[]> {
  const [files, current] = await Promise.all([
    readJson<WantedFile[]>(runner, `${CURRENT_LINK}/files.json`),
    readJson<unknown>(runner, `${CURRENT_LINK}/config.json`),
  ]);
  const old = new Map((files ?? []).map((file) => [file.path, file.content]));
  const paths = rendered.filter(({ path, content }) => old.get(path) !== content).map(({ path }) => path);
  const gone = [...old.keys()].filter((path) => !rendered.some((file) => file.path === path));
  return JSON.stringify(current) === JSON.stringify(config)
    ? [...paths, ...gone]
    : [...paths, ...gone, "config.json"];
}

/** How a file is checked: by the tool that will load it, which sees what it will see then. */
const CHECKS: readonly (Omit<Step, "stdin"> & { readonly path: string })[] = [
  {
    path: `${ETC_DIR}/nftables.nft`,
    title: "check the firewall's rules",
    argv: ["unshare", "-n", "nft", "-c", "-f", "/dev/stdin"],
  },
  {
    path: `${ETC_DIR}/dnsmasq.conf`,
    title: "check dnsmasq's configuration",
    argv: ["dnsmasq", "--test", "--conf-file=/dev/stdin"],
  },
];

/** What is as before was checked when it was new. */
async function checkFiles(runner: Runner, changed: readonly WantedFile[]): Promise<void> {
  await Promise.all(CHECKS.map(async ({ path, ...check }) => {
    const stdin = changed.find((file) => file.path === path)?.content;
    if (stdin !== undefined) await runStep(runner, { ...check, stdin });
  }));
}
