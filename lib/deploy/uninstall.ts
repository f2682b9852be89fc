/**
 * The phases that give the hosts their own network back. Effects: on the hosts through their connections, and
 * `wireguard_pubkeys.yml` beside `hosts.yml`.
 */
import { HostError, TransportError } from "../errors.ts";
import type { Baseline } from "../facts.ts";
import { BASELINE_SCRIPT, parseBaseline } from "../host/baseline.ts";
import { readJson } from "../host/context.ts";
import { BASELINE_FILE } from "../host/paths.ts";
import type { UninstallResult } from "../host/protocol.ts";
import { installedPackages } from "../host/purge.ts";
import { baselineDifferences } from "../net/down.ts";
import { writePubkeysFile } from "./load.ts";
import { until } from "./parallel.ts";
import { CONNECT, copy, LOAD, LOOK, patience, type Phase, steps } from "./phases.ts";
import { LOCK } from "./push_lock.ts";
import { alive, type HostRun, type PushRun } from "./run.ts";

/** Milliseconds until a host has to be back without anything of ours. */
const RETURN_PATIENCE = 180_000;
/** The same where a package manager, too, is at work, and may have to wait for another one. */
const PURGE_PATIENCE = 900_000;
const COMPARE_PATIENCE = 10_000;

/** All phases of an uninstallation. */
export const UNINSTALL_PHASES: readonly Phase[] = [
  LOAD,
  CONNECT,
  LOOK,
  { name: "find", title: "look for an installation", host: find },
  { ...LOCK, concerns: ({ bare }) => !bare },
  { name: "copy", title: "copy executable", concerns: ({ bare }) => !bare, host: copy },
  {
    name: "uninstall",
    title: "give the network back",
    concerns: ({ bare }) => !bare,
    host: uninstall,
  },
  { name: "forget", title: "forget the keys", after: forgetKeys },
];

/** Prints what is there of ours. */
const TRACES_SCRIPT = `
for path in /opt/mobula /run/netns/mobula /run/netns/mobula-sw /etc/wireguard/mobula /etc/netns/mobula \\
  /etc/systemd/system/mobula* /etc/udev/rules.d/70-mobula*; do
  [ ! -e "$path" ] || echo "$path"
done
`;

async function traces(run: HostRun): Promise<string[]> {
  const { stdout } = await run.ssh.run({
    title: "look for traces",
    argv: ["sh", "-s"],
    stdin: TRACES_SCRIPT,
  });
  return stdout.split("\n").filter((line) => line !== "");
}

async function find(run: HostRun): Promise<void> {
  run.bare = (await traces(run)).length === 0;
}

async function uninstall(run: HostRun, push: PushRun): Promise<void> {
  const baseline = await readJson<Baseline>(run.ssh, BASELINE_FILE);
  run.lock?.leave();
  const { purge = false } = push.options;
  const started = await run.calls.call("uninstall", { purge }, { onStep: steps(run, push) }).catch(
    (error) => {
      if (!(error instanceof TransportError) || !error.options.retry) throw error;
    },
  );
  push.progress.step(run.host.hostname, "wait for the host to come back");
  let last = "it has not come back";
  const done = await until(async () => {
    try {
      // Each time anew: a connection through the gateway dies without a word.
      await run.ssh.connect(2);
      const left = await traces(run);
      if (left.length > 0) last = `there is still ${left.join(", ")}`;
      return left.length === 0 ? true : undefined;
    } catch (error) {
      if (!(error instanceof TransportError) || !error.options.retry) throw error;
      last = error.message;
      return undefined;
    }
  }, patience(purge ? PURGE_PATIENCE : RETURN_PATIENCE, push, 1000));
  if (!done) {
    throw new HostError(
      `${run.host.hostname}: Cannot finish the uninstallation: ${last}; expected nothing of mobula. ` +
        'See "journalctl -u mobula-rollback" on the host, then uninstall again',
    );
  }
  if (started && purge) await tellPackages(run, push, started);
  if (baseline) await compare(run, push, baseline);
}

async function tellPackages(
  run: HostRun,
  push: PushRun,
  { removing, kept }: Pick<UninstallResult, "removing" | "kept">,
): Promise<void> {
  const left = await installedPackages(run.ssh, removing);
  const gone = removing.filter((name) => !left.includes(name));
  const notes = [
    ...gone.length === 0 ? [] : [`removed packages ${gone.join(", ")}`],
    ...kept.length === 0 ? [] : [`kept packages ${kept.join(", ")}: held, or others need them`],
    ...left.length === 0 ? [] : [
      `packages ${left.join(", ")} are still there: see "journalctl -u mobula-rollback" on the host, ` +
      `then "apt-get purge" them`,
    ],
  ];
  for (const note of notes) push.progress.note(note, run.host.hostname);
  run.notes.push(...notes);
}

/** Whatever differs from before, after a moment for the host's network manager, is told, not mended. */
async function compare(run: HostRun, push: PushRun, baseline: Baseline): Promise<void> {
  let notes: string[] = [];
  await until(async () => {
    const { stdout } = await run.ssh.run({
      title: "read the network",
      argv: ["sh", "-s"],
      stdin: BASELINE_SCRIPT,
    });
    notes = differences(baseline, stdout);
    return notes.length === 0 ? true : undefined;
  }, patience(COMPARE_PATIENCE, push));
  for (const note of notes) push.progress.note(note, run.host.hostname);
  run.notes.push(...notes);
}

function differences(baseline: Baseline, output: string): string[] {
  try {
    return baselineDifferences(baseline, parseBaseline(output, baseline.sshPort))
      .map((difference) => `differs from before: ${difference}`);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    return [error.message];
  }
}

/** A host without mobula has no key: nobody is expected to reach it. */
async function forgetKeys(push: PushRun): Promise<void> {
  const gone = new Set(alive(push).map(({ host }) => host.address));
  const left = new Map([...push.pubkeys].filter(([address]) => !gone.has(address)));
  if (left.size !== push.pubkeys.size) await writePubkeysFile(push.options.hostsPath, left);
}
