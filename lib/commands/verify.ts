/**
 * `mobula verify`: every host asks for every other one. Effects: connects to the hosts, which send probes; changes nothing.
 */
import type { HostPublicKey } from "../config/pubkeys.ts";
import { Interrupted } from "../deploy/push.ts";
import { limitHosts } from "../deploy/limit.ts";
import { inParallel } from "../deploy/parallel.ts";
import { makeControlDirectory, SshRunner } from "../deploy/ssh.ts";
import { type HostVerification, isFine, type Prober, type Verification, verify } from "../deploy/verify.ts";
import { EXIT, HostError, TransportError } from "../errors.ts";
import type { Host } from "../fleet.ts";
import { renderVerification } from "../ui/matrix.ts";
import { verificationJson } from "../ui/report.ts";
import { type OutputOptions, progressFor, writeLine } from "../ui/terminal.ts";
import { loadFleet } from "./load_fleet.ts";

/** What the command line asks of a verification. */
export interface VerifyCommandOptions extends OutputOptions {
  readonly hostsPath: string;
  readonly limit: readonly string[];
  readonly parallel: number;
  /** Seconds. */
  readonly wait: number;
  readonly sshConfig?: string;
  readonly acceptNewHostKeys: boolean;
  readonly signal?: AbortSignal;
}

interface Connected extends Prober {
  readonly ssh: SshRunner;
  error?: string;
}

/** Verifies and shows the matrix; gives the exit code. */
export async function verifyCommand(options: VerifyCommandOptions): Promise<number> {
  const { fleet, pubkeys } = await loadFleet(options.hostsPath);
  const asked = limitHosts(fleet.hosts, options.limit);
  const targets = fleet.hosts.filter((host) => isInstalled(host, pubkeys));
  const directory = await makeControlDirectory();
  const ssh = {
    controlDirectory: directory,
    configFile: options.sshConfig,
    acceptNewHostKeys: options.acceptNewHostKeys,
  };
  const probers = asked.map((host): Connected => ({
    host,
    ssh: new SshRunner(host.hostname, host.ssh, ssh),
  }));
  const closeAll = () => Promise.all(probers.map(({ ssh }) => ssh.close()));
  options.signal?.addEventListener("abort", () => void closeAll());
  try {
    const { extraHosts } = fleet;
    const verification = await askAll(probers, { options, targets, extraHosts });
    if (options.signal?.aborted) throw new Interrupted("Interrupted");
    show(verification, options);
    return exitCodeOf(probers, verification);
  } finally {
    await closeAll();
    await Deno.remove(directory, { recursive: true });
  }
}

/** A host that has no key yet is in nobody's mesh: nobody can be expected to reach it. */
function isInstalled({ address, pinnedKeys }: Host, pubkeys: ReadonlyMap<string, HostPublicKey>): boolean {
  return pinnedKeys !== undefined || pubkeys.has(address);
}

interface Question {
  readonly options: VerifyCommandOptions;
  readonly targets: readonly Host[];
  readonly extraHosts: Parameters<typeof verify>[1]["extraHosts"];
}

async function askAll(
  probers: Connected[],
  { options, targets, extraHosts }: Question,
): Promise<Verification> {
  const progress = progressFor(options);
  const { parallel, wait, signal } = options;
  progress.phase({ name: "verify", title: "verify" }, probers.map(({ host }) => host.hostname));
  await inParallel(probers, parallel, connect);
  const answers = await verify(probers.filter(({ error }) => error === undefined), {
    targets,
    extraHosts,
    parallel,
    deadline: Date.now() + wait * 1000,
    signal,
    onProgress: (host, text) => progress.step(host, text),
  });
  await progress.end();
  const hosts = probers.map((prober) => answerOf(prober, answers));
  return { ok: hosts.every(isFine), targets: columns(targets, probers), hosts };
}

async function connect(prober: Connected): Promise<void> {
  try {
    await prober.ssh.connect();
  } catch (error) {
    if (!(error instanceof TransportError || error instanceof HostError)) throw error;
    prober.error = error.message;
  }
}

function answerOf({ host, error }: Connected, answers: Verification): HostVerification {
  const { hostname, id } = host;
  return answers.hosts.find((answer) => answer.id === id) ?? { hostname, id, results: [], error };
}

function columns(targets: readonly Host[], probers: readonly Connected[]): string[] {
  const all = new Map(
    [...targets, ...probers.map(({ host }) => host)].map(({ id, hostname }) => [id, hostname]),
  );
  return [...all].sort(([a], [b]) => a - b).map(([, hostname]) => hostname);
}

function show(verification: Verification, { json }: OutputOptions): void {
  writeLine(
    json ? JSON.stringify(verificationJson(verification), null, 2) : renderVerification(verification),
  );
}

function exitCodeOf(probers: readonly Connected[], { ok }: Verification): number {
  if (probers.every(({ error }) => error !== undefined)) return EXIT.unreachable;
  return ok ? EXIT.ok : EXIT.someFailed;
}
