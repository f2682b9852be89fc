/**
 * `mobula verify`: every host asks for every other one. Effects: connects to the hosts, which send probes; changes nothing there. May
 * write one file.
 */
import type { HostPublicKey } from "../config/pubkeys.ts";
import { Interrupted } from "../deploy/push.ts";
import { HostCalls } from "../deploy/host_calls.ts";
import { limitHosts } from "../deploy/limit.ts";
import { inParallel } from "../deploy/parallel.ts";
import { makeControlDirectory } from "../deploy/control_directory.ts";
import { SshRunner } from "../deploy/ssh.ts";
import {
  type CheckResult,
  type HostVerification,
  isFine,
  type Prober,
  type Verification,
  verify,
} from "../deploy/verify.ts";
import { EXIT, HostError, TransportError, UsageError } from "../errors.ts";
import type { Host } from "../fleet.ts";
import { renderJunit } from "../ui/junit.ts";
import { renderLines, renderVerification } from "../ui/matrix.ts";
import { verificationJson } from "../ui/report.ts";
import { writeLine } from "../ui/lines.ts";
import { type OutputOptions, progressFor } from "../ui/terminal.ts";
import { loadFleet } from "./load_fleet.ts";

/** What the command line asks of a verification. */
export interface VerifyCommandOptions extends OutputOptions {
  readonly hostsPath: string;
  readonly limit: readonly string[];
  readonly parallel: number;
  /** Seconds. */
  readonly wait: number;
  /** Pings, names and keys alone. */
  readonly quick: boolean;
  /** File for the results as JUnit's XML. */
  readonly junit?: string;
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
  const began = performance.now();
  const { fleet, pubkeys } = await loadFleet(options.hostsPath);
  const asked = limitHosts(fleet.hosts, options.limit);
  const targets = fleet.hosts.filter((host) => isInstalled(host, pubkeys));
  const directory = await makeControlDirectory();
  const ssh = {
    controlDirectory: directory,
    configFile: options.sshConfig,
    acceptNewHostKeys: options.acceptNewHostKeys,
  };
  const probers = asked.map((host): Connected => {
    const runner = new SshRunner(host.hostname, host.ssh, ssh);
    return { host, ssh: runner, calls: new HostCalls(runner) };
  });
  const closeAll = () => Promise.all(probers.map(({ ssh }) => ssh.close()));
  options.signal?.addEventListener("abort", () => void closeAll());
  try {
    const { extraHosts } = fleet;
    const keys = publicKeys(fleet.hosts, pubkeys);
    const verification = await askAll(probers, { options, targets, extraHosts, keys });
    if (options.signal?.aborted) throw new Interrupted("Interrupted");
    show(verification, options);
    if (options.junit !== undefined) await writeJunit(options.junit, verification, began);
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

/** By external address: pinned keys win, as they do in a push. */
function publicKeys(
  hosts: readonly Host[],
  pubkeys: ReadonlyMap<string, HostPublicKey>,
): ReadonlyMap<string, string> {
  return new Map(hosts.flatMap(({ address, pinnedKeys }) => {
    const key = pinnedKeys?.publicKey ?? pubkeys.get(address)?.publicKey;
    return key === undefined ? [] : [[address, key]];
  }));
}

interface Question {
  readonly options: VerifyCommandOptions;
  readonly targets: readonly Host[];
  readonly extraHosts: Parameters<typeof verify>[1]["extraHosts"];
  readonly keys: ReadonlyMap<string, string>;
}

async function askAll(
  probers: Connected[],
  { options, targets, extraHosts, keys }: Question,
): Promise<Verification> {
  const progress = progressFor(options);
  const { parallel, wait, quick, signal } = options;
  progress.phase({ name: "verify", title: "verify" }, probers.map(({ host }) => host.hostname));
  await inParallel(probers, parallel, connect);
  const answers = await verify(probers.filter(({ error }) => error === undefined), {
    targets,
    extraHosts,
    parallel,
    depth: quick ? "quick" : "full",
    pubkeys: keys,
    deadline: Date.now() + wait * 1000,
    signal,
    onProgress: (host, text) => progress.step(host, text),
  });
  await progress.end();
  const hosts = probers.map((prober) => answerOf(prober, answers));
  const ok = answers.ok && hosts.every(isFine);
  return { ok, targets: columns(targets, probers), hosts };
}

async function connect(prober: Connected): Promise<void> {
  try {
    await prober.ssh.connect();
  } catch (error) {
    if (!(error instanceof TransportError || error instanceof HostError)) throw error;
    prober.error = error.message;
  }
}

/** The connection was made for this verification: it is the proof that SSH answers. */
function answerOf({ host, error }: Connected, answers: Verification): HostVerification {
  const { hostname, id } = host;
  const answer = answers.hosts.find((answer) => answer.id === id) ?? { hostname, id, results: [], error };
  const ok = error === undefined;
  const check: CheckResult = {
    kind: "ssh",
    to: hostname,
    address: host.ssh.host,
    from: "deployer",
    ok,
    ...(ok ? {} : { found: error }),
  };
  return { ...answer, results: [...answer.results, check] };
}

function columns(targets: readonly Host[], probers: readonly Connected[]): string[] {
  const all = new Map(
    [...targets, ...probers.map(({ host }) => host)].map(({ id, hostname }) => [id, hostname]),
  );
  return [...all].sort(([a], [b]) => a - b).map(([, hostname]) => hostname);
}

function show(verification: Verification, { json }: OutputOptions): void {
  if (json) return writeLine(JSON.stringify(verificationJson(verification), null, 2));
  writeLine((Deno.stdout.isTerminal() ? renderVerification : renderLines)(verification));
}

async function writeJunit(path: string, verification: Verification, began: number): Promise<void> {
  try {
    await Deno.writeTextFile(path, renderJunit(verification, (performance.now() - began) / 1000));
  } catch (error) {
    throw new UsageError(
      `Cannot write ${path}: ${
        error instanceof Error ? error.message : error
      }; expected a file that may be written`,
    );
  }
}

function exitCodeOf(probers: readonly Connected[], { ok }: Verification): number {
  if (probers.every(({ error }) => error !== undefined)) return EXIT.unreachable;
  return ok ? EXIT.ok : EXIT.someFailed;
}
