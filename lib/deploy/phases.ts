/**
 * The phases of a push, in their order: the only place where order is decided. Effects: on the hosts through their connections, and
 * `wireguard_pubkeys.yml` beside `hosts.yml`.
 */
import { HostError, TransportError } from "../errors.ts";
import { ownExecutable } from "../executable.ts";
import { CONFIRM_TIMEOUT } from "../host/armed.ts";
import type { StatusResult } from "../host/protocol.ts";
import { isNew } from "../host/prepare.ts";
import { preview } from "../host/preview.ts";
import { hostConfigFor } from "../host_config.ts";
import { whyUnconfirmed } from "./confirmation.ts";
import { sendExecutable } from "./copy.ts";
import { loadRun, writeRunPubkeys } from "./load.ts";
import { look } from "./look.ts";
import { packOwnExecutable } from "./pack.ts";
import { pause } from "../pause.ts";
import { inParallel, type Patience, until } from "./parallel.ts";
import { closedServices, preflight } from "./preflight.ts";
import { LOCK } from "./push_lock.ts";
import { ANNOUNCE, FORGET, TAKE_KEYS } from "./rotate.ts";
import { alive, dropOut, type HostRun, type PushRun } from "./run.ts";
import { readHostBasis, refuseFalseClaims, settleFleet, settleUnchanged } from "./settle.ts";
import { isFine, verify } from "./verify.ts";

/** One phase: `before` and `after` once, `host` for every host that is still in, in parallel; then a barrier. */
export interface Phase {
  readonly name: string;
  /** What it does, as "verb object". */
  readonly title: string;
  /** The hosts it concerns, of those that are still in; all unless told. */
  readonly concerns?: (host: HostRun, push: PushRun) => boolean;
  readonly before?: (push: PushRun) => Promise<void> | void;
  readonly host?: (host: HostRun, push: PushRun) => Promise<void>;
  readonly after?: (push: PushRun) => Promise<void> | void;
  /** The hosts take their turn instead of working in parallel. */
  readonly oneByOne?: boolean;
}

/** What every run over the fleet begins with. */
export const LOAD: Phase = { name: "load", title: "load configuration", before: loadRun };
/** The second phase of every run. */
export const CONNECT: Phase = { name: "connect", title: "connect", host: connect };
/** The third one. */
export const LOOK: Phase = {
  name: "look",
  title: "look at host",
  host: async (host) => void (host.facts = await look(nameOf(host), host.ssh)),
};
const PREFLIGHT: Phase = { name: "preflight", title: "check host", after: judgeAll };

/** What a push begins with, and then only a look at what it would do: nothing is changed. */
export const PLAN_PHASES: readonly Phase[] = [
  LOAD,
  CONNECT,
  LOOK,
  PREFLIGHT,
  { name: "basis", title: "read what is installed", host: readHostBasis, after: settleUnchanged },
  { name: "plan", title: "compare with what is live", host: previewHost },
];

/** Milliseconds. */
const CONNECT_PATIENCE = 4_000;
const ACTIVATE_PATIENCE = 300_000;
/** The others wait at the barrier for a host that is gone: no longer than this. */
const ACTIVATE_SILENCE = 90_000;
/** After the time for a confirmation is over. */
const RETURN_PATIENCE = 45_000;
/** Servers of metal take minutes before they even look for a disk. */
const REBOOT_PATIENCE = 600_000;
const VERIFY_PATIENCE = 60_000;
/** Part of the confirm timeout in which a new connection is tried: the renewal timer has left the host two thirds of it. */
const CONFIRM_SHARE = 0.6;

/** A generation takes effect, proves itself, and is confirmed; else the host goes back. */
const PROVING_PHASES: readonly Phase[] = [
  { name: "activate", title: "activate network", host: activate },
  TAKE_KEYS,
  { name: "verify", title: "verify all pairs", after: verifyAll },
  {
    name: "confirm",
    title: "confirm installation",
    concerns: needsConfirmation,
    host: confirm,
    after: awaitReturns,
  },
  FORGET,
];

/** All phases of going back one generation on purpose. */
export const ROLLBACK_PHASES: readonly Phase[] = [
  LOAD,
  CONNECT,
  LOOK,
  LOCK,
  { name: "choose", title: "choose the generation before", host: chooseEarlier, after: settleEarlier },
  ANNOUNCE,
  ...PROVING_PHASES,
];

/** All phases of a push. */
export const PHASES: readonly Phase[] = [
  LOAD,
  { ...CONNECT, before: hashExecutable },
  { ...LOOK, host: lookAndStart },
  // Else a host on which another push is at work would count as one whose installation was interrupted.
  LOCK,
  PREFLIGHT,
  {
    name: "copy",
    title: "copy executable",
    host: async (run, push) => {
      await copy(run, push);
      run.calls.useSession();
    },
  },
  { name: "prepare", title: "prepare packages and keys", host: prepare, after: settleFleet },
  ANNOUNCE,
  { name: "stage", title: "stage configuration", host: stage },
  ...PROVING_PHASES,
  { name: "reboot", title: "reboot new hosts", concerns: needsReboot, host: reboot },
  {
    name: "verify again",
    title: "verify all pairs after the reboot",
    concerns: (_host, push) => push.hosts.some(({ rebooted }) => rebooted),
    after: verifyAll,
  },
];

function nameOf({ host }: HostRun): string {
  return host.hostname;
}

/** Where a host's steps are told. */
export function steps(host: HostRun, push: PushRun): (title: string) => void {
  return (title) => push.progress.step(nameOf(host), title);
}

/** For so many milliseconds from now, unless the push is interrupted. */
export function patience(milliseconds: number, push: PushRun, rest = 500): Patience {
  return { deadline: Date.now() + milliseconds, rest, signal: push.options.signal };
}

/** Tries again as long as the failure is of a passing kind. */
async function connect(host: HostRun, push: PushRun): Promise<void> {
  await retryTransport(() => host.ssh.connect(), patience(CONNECT_PATIENCE, push));
}

async function retryTransport<T>(attempt: () => Promise<T>, patience: Patience): Promise<T> {
  let last: unknown;
  const done = await until(async () => {
    try {
      return { value: await attempt() };
    } catch (error) {
      if (!(error instanceof TransportError) || !error.options.retry) throw error;
      last = error;
      return undefined;
    }
  }, patience);
  if (!done) throw last;
  return done.value;
}

/** Nobody is changed before everybody was judged. */
function judgeAll(push: PushRun): void {
  const facts = new Map(alive(push).map((run) => [run.host.id, run.facts!]));
  const now = Date.now() / 1000;
  const problems = preflight(push.fleet, facts, { reinstall: push.options.reinstall, now });
  for (const run of alive(push)) {
    const own = problems.filter(({ host }) => host.id === run.host.id);
    for (const { message } of own.filter(({ severity }) => severity === "warning")) {
      run.notes.push(message);
      push.progress.note(message, nameOf(run));
    }
    const errors = own.filter(({ severity }) => severity === "error").map(({ message }) => message);
    if (errors.length > 0) dropOut(run, push, errors.join("\n"));
  }
}

/** Starts to hash the executable that this push sends, while the connections are made. One that is still to be compiled has no hash. */
function hashExecutable(push: PushRun): void {
  if (push.options.executable === undefined && ownExecutable().path === undefined) return;
  push.package = packOwnExecutable(push.options.executable, push.directory);
  // Whoever needs it gets the error.
  push.package.catch(() => {});
}

/** Gathers facts; where the host has this executable already, its session starts at once. */
async function lookAndStart(run: HostRun, push: PushRun): Promise<void> {
  run.facts = await look(nameOf(run), run.ssh);
  const hash = run.facts.executableHash;
  if (hash !== undefined && hash === (await push.package?.catch(() => undefined))?.hash) {
    run.calls.useSession();
  }
}

/** Puts the executable on the host where it is another one. */
export async function copy(run: HostRun, push: PushRun): Promise<void> {
  push.package ??= packOwnExecutable(push.options.executable, push.directory);
  const own = await push.package;
  if (run.facts?.executableHash === own.hash) return;
  push.progress.step(nameOf(run), "send executable");
  await sendExecutable(nameOf(run), run.ssh, { hash: own.hash, path: await own.packed() });
  run.copied = true;
}

/**
 * New keys at every push, unless somebody wants to keep them, or somebody would not hear of them: a host that cannot be
 * reached, or is not part of this push, would be cut off by it.
 */
function keyPolicy(push: PushRun): "keep" | "rotate" {
  const { keepKeys, limit } = push.options;
  const everybody = push.hosts.length === push.fleet.hosts.length && alive(push).length === push.hosts.length;
  return push.fleet.keepKeys || keepKeys || limit.length > 0 || !everybody ? "keep" : "rotate";
}

async function prepare(run: HostRun, push: PushRun): Promise<void> {
  const { pinnedKeys } = run.host;
  run.prepared = await run.calls.call("prepare", {
    keys: push.keyPolicy ??= keyPolicy(push),
    ...(pinnedKeys
      ? { pinnedKeys: { publicKey: pinnedKeys.publicKey, privateKey: pinnedKeys.privateKey.reveal() } }
      : {}),
    reinstall: push.options.reinstall,
    sshPort: run.facts?.sshPort ?? 22,
    executableHash: (await push.package)?.hash,
  }, { onStep: steps(run, push) });
}

async function previewHost(run: HostRun, push: PushRun): Promise<void> {
  const config = hostConfigFor(push.fleet, run.host.id, push.pubkeys, push.underlayMtu!);
  const { facts, basis } = run;
  run.preview = await preview(run.ssh, basis!, {
    config,
    settled: alive(push).map(({ host }) => host.id),
    sendsExecutable: sendsExecutable(facts?.executableHash, push.sends?.hash),
    reboots: push.options.reboot && isNew(facts?.state, push.options.reinstall),
  });
  run.notes.push(...closedServices(run.preview, facts?.services ?? []));
}

/** Undefined: what would be sent is made only by the push, so that nobody can tell. */
function sendsExecutable(there: string | undefined, own: string | undefined): boolean | undefined {
  if (there === undefined) return true;
  return own === undefined ? undefined : there !== own;
}

async function stage(run: HostRun, push: PushRun): Promise<void> {
  const config = hostConfigFor(push.fleet, run.host.id, push.pubkeys, push.underlayMtu!);
  run.staged = await run.calls.call("stage", { config }, { onStep: steps(run, push) });
}

async function activate(run: HostRun, push: PushRun): Promise<void> {
  const confirmSeconds = confirmTimeout(push);
  const request = { generation: run.staged!.generation, confirmSeconds };
  // The others may take their time: as long as this push is there, and reaches the host, it waits.
  run.lock?.expectSilence();
  run.keeper = setInterval(() => void keep(run, push), confirmSeconds * 1000 / 3);
  try {
    run.activated = await run.calls.call("activate", request, { onStep: steps(run, push) });
  } catch (error) {
    // The network moved under the answer's feet: the host goes on by itself and can be asked later.
    if (!(error instanceof TransportError) || !error.options.retry) throw error;
    run.activated = { cutsConnection: true, steps: [] };
  }
  if (!needsConfirmation(run)) stopKeeper(run);
  if (run.activated.cutsConnection) await awaitActivation(run, push);
}

/** Asks over new connections until the host says how its activation went. */
async function awaitActivation(run: HostRun, push: PushRun): Promise<void> {
  push.progress.step(nameOf(run), "wait for the network to come back");
  const wait = patience(ACTIVATE_PATIENCE, push, 100);
  // A host that cannot be reached goes back when its time is over, and can then say so.
  const silence = Math.max(ACTIVATE_SILENCE, confirmTimeout(push) * 1000 + RETURN_PATIENCE);
  // One that is lost must leave time for others until the host goes back.
  const milliseconds = firstTry(run, confirmTimeout(push) * 1000 / 4);
  const effort: Effort = { milliseconds, silence, extendSeconds: confirmTimeout(push) };
  if (run.ssh.connected) await awaitCut(run, milliseconds, wait);
  await run.ssh.close();
  const status = await until(async () => {
    const seen = await statusOf(run, effort);
    return seen && seen.activation !== "running" ? seen : undefined;
  }, wait);
  if (!status && effort.last) throw effort.last;
  throwUnlessDone(run, status, ACTIVATE_PATIENCE);
}

/** Milliseconds that an external interface needs to move: who asks before that is not heard, and has to ask again a second later. */
const MOVE = 300;

/** Waits over the connection that there is until the host says that this is about to be cut, or says nothing any more. */
async function awaitCut(
  { calls }: HostRun,
  milliseconds: number,
  { deadline, signal }: Patience,
): Promise<void> {
  const request = { untilCut: true, waitMilliseconds: milliseconds / 2 };
  while (Date.now() < deadline && !signal?.aborted) {
    const status = await calls.call("status", request, { milliseconds }).catch(() => undefined);
    if (status?.cut) await pause(MOVE);
    if (status?.activation !== "running" || status.cut) return;
  }
}

/** How long a connection that may have died silently is waited for; it grows with each try, because the host may just be slow. */
interface Effort {
  milliseconds: number;
  /** Milliseconds of silence after which the host counts as lost. */
  readonly silence: number;
  /** What an activation that is done is given until its confirmation. */
  readonly extendSeconds?: number;
  /** Since when nothing was heard. */
  silentSince?: number;
  /** Why the last try failed; missing when it did not. */
  last?: TransportError;
}

/** Milliseconds between two looks at a host that is to go back: each is a login. */
const RETURN_REST = 2_000;
const FIRST_TRY = 1_000;
const LAST_TRY = 30_000;
/** A connection that was begun while the host was away may not hear that it is back. */
const LAST_CONNECT = 15_000;

/** Milliseconds: twice the slowest start on this host, so that a slow host is not asked again while it answers; no more than `most`. */
function firstTry({ calls }: HostRun, most = LAST_TRY): number {
  return Math.max(Math.min(2 * calls.slowestStart, most, LAST_TRY), FIRST_TRY);
}

/** The host's status; undefined when the connection was lost, which is made anew the next time. */
async function statusOf(run: HostRun, effort: Effort): Promise<StatusResult | undefined> {
  const { milliseconds, extendSeconds } = effort;
  try {
    if (!run.ssh.connected) await run.ssh.connect(Math.ceil(Math.min(milliseconds, LAST_CONNECT) / 1000));
    const status = await run.calls.call("status", { extendSeconds, waitMilliseconds: milliseconds / 2 }, {
      milliseconds,
    });
    delete effort.last;
    delete effort.silentSince;
    return status;
  } catch (error) {
    await run.ssh.close();
    if (!(error instanceof TransportError) || !error.options.retry) throw error;
    effort.silentSince ??= Date.now();
    if (Date.now() - effort.silentSince > effort.silence) throw error;
    effort.milliseconds = Math.min(milliseconds * 2, LAST_TRY);
    effort.last = error;
    return undefined;
  }
}

function throwUnlessDone(run: HostRun, status: StatusResult | undefined, waited: number): void {
  if (status?.activation === "done") return;
  if (status?.activation === "rolledback") {
    const isSilent = status.error?.startsWith("nobody confirmed") ?? true;
    const wayOut = isSilent
      ? "expected this push to reach it over the new path. Look for a firewall on the host that drops SSH on mo-dir-hs, then push again"
      : `expected it to come up. See "journalctl -u 'mobula*'" on the host, then push again`;
    throw new HostError(`${nameOf(run)}: Cannot activate network: ${status.error}; ${wayOut}`);
  }
  const found = status ? status.error ?? "it failed without a reason" : `no end within ${waited / 1000} s`;
  const wayOut = run.rebooted
    ? 'See "journalctl -u mobula" on the host, then push with --reinstall'
    : `It goes back by itself; see "journalctl -u 'mobula*'" on the host, then push again`;
  throw new HostError(`${nameOf(run)}: Cannot activate network: ${found}; expected it to come up. ${wayOut}`);
}

/** Every host of this push asks for every other one; whom it misses does not drop out, but is told in the report. */
async function verifyAll(push: PushRun): Promise<void> {
  const runs = alive(push);
  if (runs.length === 0) return;
  push.verification = await verify(runs, {
    targets: runs.map(({ host }) => host),
    // An earlier generation knows the names of its own time.
    extraHosts: runs.some(({ earlierKey }) => earlierKey !== undefined) ? [] : push.fleet.extraHosts,
    parallel: push.options.parallel,
    onProgress: (host, text) => push.progress.step(host, text),
    deadline: Date.now() + VERIFY_PATIENCE,
    signal: push.options.signal,
  });
  for (const host of push.verification.hosts.filter((host) => !isFine(host))) {
    const missing = host.results.filter(({ ok }) => !ok).length;
    push.progress.note(
      host.error ?? `${missing} of ${host.results.length} checks failed`,
      host.hostname,
    );
  }
}

function confirmTimeout({ options }: PushRun): number {
  return options.confirmTimeout ?? CONFIRM_TIMEOUT;
}

/** Asks for more time. A host that does not hear it goes back, as it should. */
async function keep(run: HostRun, push: PushRun): Promise<void> {
  if (run.failure || run.unconfirmed || push.options.signal?.aborted) return stopKeeper(run);
  if (!run.ssh.connected) return;
  await run.calls.call("extend", { seconds: confirmTimeout(push) }).catch(() => {});
}

/** Lets a host's time run. */
export function stopKeeper(run: HostRun): void {
  clearInterval(run.keeper);
  delete run.keeper;
}

function needsConfirmation({ facts, prepared, staged, activated }: HostRun): boolean {
  return prepared?.newlyInstalled || facts?.state?.status !== "installed" ||
    facts.state.generation !== staged?.generation ||
    (activated?.cutsConnection ?? false);
}

/** Over a new connection, and only a host that is fine itself; what others lack is not its fault. */
async function confirm(run: HostRun, push: PushRun): Promise<void> {
  const reason = whyUnconfirmed(run.host, push.verification);
  run.lock?.expectSilence();
  stopKeeper(run);
  if (reason !== undefined) {
    run.unconfirmed = reason;
    return;
  }
  const confirmOnce = async () => {
    await run.ssh.connect();
    await run.calls.call("confirm", { generation: run.staged!.generation });
  };
  try {
    await retryTransport(confirmOnce, patience(confirmTimeout(push) * 1000 * CONFIRM_SHARE, push));
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    run.unconfirmed = `no new connection to it (${error.message})`;
  }
}

/** Waits until the unconfirmed hosts are back, so that the report tells how they are. */
async function awaitReturns(push: PushRun): Promise<void> {
  const gone = alive(push).filter(({ unconfirmed }) => unconfirmed !== undefined);
  await inParallel(gone, push.options.parallel, async (run) => {
    push.progress.step(nameOf(run), "wait for the host to go back");
    const back = await awaitReturn(run, push);
    dropOut(run, push, `${nameOf(run)}: Cannot confirm the installation: ${run.unconfirmed}; ${back}`);
  });
}

async function awaitReturn(run: HostRun, push: PushRun): Promise<string> {
  const milliseconds = confirmTimeout(push) * 1000 + RETURN_PATIENCE;
  const effort: Effort = { milliseconds: firstTry(run), silence: milliseconds };
  const status = await until(async () => {
    const seen = await statusOf(run, effort).catch(() => undefined);
    if (seen && seen.activation !== "rolledback") await run.ssh.close();
    return seen?.activation === "rolledback" ? seen : undefined;
  }, patience(milliseconds, push, RETURN_REST));
  return status?.error ??
    `it goes back by itself, but has not been seen again within ${milliseconds / 1000} s`;
}

/** What is to be activated is there already. */
async function chooseEarlier(run: HostRun): Promise<void> {
  const { generation, publicKey, liveKey } = await run.calls.call("earlier", {});
  run.staged = { generation, changed: true, files: [] };
  run.earlierKey = publicKey;
  if (liveKey !== undefined) run.liveKey = liveKey;
}

/** The hosts go back to the keys of that generation. */
async function settleEarlier(push: PushRun): Promise<void> {
  refuseFalseClaims(push);
  await writeRunPubkeys(push, "live");
}

function needsReboot(run: HostRun, push: PushRun): boolean {
  return push.options.reboot && (run.prepared!.newlyInstalled || push.options.reinstall);
}

async function reboot(run: HostRun, push: PushRun): Promise<void> {
  // Asked before, because a host that goes down may take its answer with it.
  const { bootId } = await run.calls.call("status", {});
  await run.calls.call("reboot", {}, { onStep: steps(run, push) }).catch((error) => {
    if (!(error instanceof TransportError) || !error.options.retry) throw error;
  });
  run.rebooted = true;
  // What is left to do is only to ask, and the lock does not outlive a boot.
  run.lock?.leave();
  push.progress.step(nameOf(run), "wait for the host to come back");
  await run.ssh.close();
  const wait = patience(REBOOT_PATIENCE, push, 1000);
  let last: StatusResult | undefined;
  const effort: Effort = { milliseconds: firstTry(run), silence: REBOOT_PATIENCE };
  const status = await until(async () => {
    const seen = await statusOf(run, effort);
    if (!seen) return undefined;
    last = seen;
    if (last.bootId === bootId) await run.ssh.close();
    return last.bootId !== bootId && last.activation !== "running" ? last : undefined;
  }, wait);
  if (!status) throw notBack(run, last, bootId);
  throwUnlessDone(run, status, REBOOT_PATIENCE);
}

function notBack(run: HostRun, last: StatusResult | undefined, bootId: string): HostError {
  const found = last && last.bootId !== bootId
    ? "it is back, but its network is not up"
    : "it has not come back";
  return new HostError(
    `${nameOf(run)}: Cannot finish reboot: ${found} after ${REBOOT_PATIENCE / 1000} s; expected both. ` +
      "Look at its console, then push again",
  );
}
