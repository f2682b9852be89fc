/**
 * Does every host reach every other one, and does everything else hold? Asks the hosts, at the same time, and puts their answers
 * together. Effects: only through the connections it is given.
 */
import { HostError } from "../errors.ts";
import type { ExtraHost, Host } from "../fleet.ts";
import { LISTENING, type ProbeRequest, type ProbeResult } from "../host/protocol.ts";
import type { PathState } from "../net/live_state.ts";
import { pause } from "../pause.ts";
import {
  type Check,
  type CheckResult,
  checksFor,
  type Depth,
  type Evidence,
  type HostVerification,
  isFine,
  isPing,
  judge,
  probeRequest,
  type Verification,
} from "./checks.ts";
import { narrow, readClock } from "./clocks.ts";
import { deployerClock, withEvidence } from "./evidence.ts";
import type { HostCaller } from "./host_call.ts";
import { inParallel, type Patience } from "./parallel.ts";

export { checksFor, isFine, isPing, judge, probeRequest } from "./checks.ts";
export type { Check, CheckResult, HostVerification, Kind, Verification } from "./checks.ts";

/** A host that can be asked. */
export interface Prober {
  readonly host: Host;
  readonly calls: HostCaller;
}

/** What to ask for, and how many at a time. */
export interface VerifyOptions extends Patience {
  /** All hosts that must be reached. */
  readonly targets: readonly Host[];
  readonly extraHosts: readonly ExtraHost[];
  readonly parallel: number;
  /** `quick` unless told. */
  readonly depth?: Depth;
  /** Public keys by external address that the hosts must have; compared with each other only unless given. */
  readonly pubkeys?: ReadonlyMap<string, string>;
  readonly onProgress?: (hostname: string, text: string) => void;
}

/** What is known of one host while its questions go on. */
interface Asked {
  readonly prober: Prober;
  results: CheckResult[];
  evidence: Evidence;
  capabilities?: HostVerification["capabilities"];
  error?: string;
}

/** Asks all hosts, and asks again for what failed until everything is as it should be or the deadline has passed. */
export async function verify(probers: readonly Prober[], options: VerifyOptions): Promise<Verification> {
  const depth = options.depth ?? "quick";
  const asked = probers.map((prober): Asked => {
    const checks = checksFor(prober.host, options.targets, options.extraHosts, depth);
    return { prober, results: checks.map((check) => ({ ...check, ok: false })), evidence: {} };
  });
  const began = Date.now();
  const listeners = depth === "full" ? await openListeners(asked, options) : undefined;
  // The time for answers begins when they can be given.
  const patient = { ...options, deadline: options.deadline + (Date.now() - began) };
  try {
    await inParallel(asked, options.parallel, (one) => guarded(one, () => askUntilDone(one, patient)));
    await inParallel(asked, options.parallel, (one) => guarded(one, () => measure(one, patient)));
    if (depth === "full") await awaitRest(asked, patient);
  } finally {
    await listeners?.close();
  }
  return conclude(asked, options);
}

function conclude(asked: readonly Asked[], options: VerifyOptions): Verification {
  const answered = asked.map(({ prober, results, evidence, capabilities, error }): HostVerification => ({
    hostname: prober.host.hostname,
    id: prober.host.id,
    results,
    evidence,
    ...(capabilities ? { capabilities } : {}),
    ...(error === undefined ? {} : { error }),
  }));
  const hosts = withEvidence(answered, { ...options, depth: options.depth ?? "quick" });
  const deployer = options.depth === "full" ? deployerClock(answered) : undefined;
  return {
    ok: hosts.every(isFine) && deployer === undefined,
    targets: options.targets.map(({ hostname }) => hostname),
    hosts,
  };
}

/** A host that cannot be asked any more keeps the answers it has given. */
async function guarded(asked: Asked, work: () => Promise<void>): Promise<void> {
  if (asked.error !== undefined) return;
  try {
    await work();
  } catch (error) {
    asked.error = error instanceof Error ? error.message : String(error);
    if (asked.capabilities === undefined) asked.results = [];
  }
}

/** Answers that come late are waited for in later rounds: right after an activation the first ones come as soon as the network is up. */
const FIRST_ROUNDS = { count: 5, timeout: 1, rest: 100 } as const;

async function askUntilDone(asked: Asked, options: VerifyOptions): Promise<void> {
  for (let round = 0;; round++) {
    const isFirst = round < FIRST_ROUNDS.count;
    const rest = options.rest ?? (isFirst ? FIRST_ROUNDS.rest : 500);
    const open = asked.results.filter(({ ok }) => !ok);
    options.onProgress?.(
      asked.prober.host.hostname,
      `ask for ${open.length} of ${asked.results.length} answers`,
    );
    const request = {
      ...probeRequest(open),
      ...(isFirst ? { timeout: FIRST_ROUNDS.timeout } : {}),
      ...(round === 0 ? { settle: true } : {}),
    };
    takeAnswers(asked, open, await ask(asked, request));
    const done = asked.results.every(({ ok }) => ok);
    if (done || Date.now() + rest > options.deadline || options.signal?.aborted) return;
    await pause(rest);
  }
}

/** What does not answer at its full size may do so at a smaller one, which tells where to look. */
async function measure(asked: Asked, { signal, onProgress }: VerifyOptions): Promise<void> {
  const open = asked.results.filter((result) => !result.ok && isPing(result));
  if (open.length === 0 || signal?.aborted) return;
  onProgress?.(asked.prober.host.hostname, `measure ${open.length} paths`);
  takeAnswers(asked, open, await ask(asked, { ...probeRequest(open), measure: true }));
}

/** Milliseconds; a path that is back is held back for ten seconds when it has died twice (run-paths). */
const HELD_PATIENCE = 12_000;
/** Milliseconds for what is not asked for but becomes well by itself, however long the answers took. */
const REST_PATIENCE = 5_000;

/**
 * The tree takes some seconds to settle after a change, and so does a path that has come back. A path may have died of the questions:
 * all hosts ask all others at once, and a switch that gets no processor meanwhile says no hello.
 */
async function awaitRest(asked: readonly Asked[], options: VerifyOptions): Promise<void> {
  const { signal, rest = 500 } = options;
  const deadline = Math.max(options.deadline, Date.now() + REST_PATIENCE);
  const settled = () =>
    conclude(asked, options).hosts.every(({ results }) =>
      results.every(({ kind, ok }) => kind !== "tree" || ok)
    );
  const anyPath = (is: (path: PathState) => boolean) =>
    asked.some(({ evidence }) => evidence.paths?.some(is) ?? false);
  const down = () => anyPath(({ up }) => !up);
  const held = () => anyPath(({ up, held }) => up && held === true);
  let heldUntil = Date.now() + HELD_PATIENCE;
  while (!signal?.aborted) {
    const now = Date.now();
    const mayWait = (!settled() || down()) && now + rest < deadline;
    if (mayWait) heldUntil = now + HELD_PATIENCE;
    if (!mayWait && !(held() && now + rest < heldUntil)) return;
    await pause(rest);
    await inParallel(
      asked,
      options.parallel,
      (one) => guarded(one, async () => void await ask(one, { pings: [], names: [] })),
    );
  }
}

async function ask(asked: Asked, request: ProbeRequest): Promise<ProbeResult> {
  const sent = Date.now();
  const answer = await asked.prober.calls.call("probe", request);
  const received = Date.now();
  const { mtus, wireguard, tree, paths, egress, started, clock: finished, capabilities } = answer;
  const before = asked.evidence;
  asked.capabilities = capabilities;
  asked.evidence = {
    ...before,
    ...(mtus ? { mtus } : {}),
    ...(wireguard ? { wireguard, wireguardBefore: before.wireguardBefore ?? wireguard } : {}),
    ...(tree ? { tree } : {}),
    ...(paths ? { paths } : {}),
    ...(egress ? { egress } : {}),
    ...(started === undefined
      ? {}
      : { clock: narrow(before.clock, readClock({ sent, received }, { started, finished })) }),
  };
  return answer;
}

function takeAnswers(asked: Asked, open: readonly Check[], answer: ProbeResult): void {
  const judged = new Map(judge(open, answer).map((result) => [keyOf(result), result]));
  asked.results = asked.results.map((result) => judged.get(keyOf(result)) ?? result);
}

function keyOf({ kind, to, address }: Check): string {
  return `${kind} ${to} ${address}`;
}

/** Milliseconds until a listener has to be up, and seconds beyond the deadline after which it ends by itself. */
const LISTEN_PATIENCE = 60_000;
const LISTEN_GRACE = 300;

interface Listeners {
  readonly close: () => Promise<void>;
}

/** All listeners are up before anybody asks; they end with the connection, whatever becomes of this process. */
async function openListeners(asked: readonly Asked[], options: VerifyOptions): Promise<Listeners> {
  const release = Promise.withResolvers<void>();
  const ended: Promise<unknown>[] = [];
  const seconds = Math.ceil(Math.max(0, options.deadline - Date.now()) / 1000) + LISTEN_GRACE;
  await inParallel(asked, options.parallel, async (one) => {
    const { host, calls } = one.prober;
    options.onProgress?.(host.hostname, "listen");
    const up = Promise.withResolvers<void>();
    const timer = setTimeout(
      () => up.reject(new HostError(`no listener within ${LISTEN_PATIENCE / 1000} s`)),
      LISTEN_PATIENCE,
    );
    const onStep = (title: string) => title === LISTENING && up.resolve();
    const session = calls.call("listen", { seconds }, { onStep, hold: release.promise });
    ended.push(session.then(() => up.reject(new HostError("the listener ended at once")), up.reject));
    await up.promise.catch((error) => {
      one.evidence = { ...one.evidence, deaf: error instanceof Error ? error.message : String(error) };
    });
    clearTimeout(timer);
  });
  return {
    close: async () => {
      release.resolve();
      await Promise.all(ended);
    },
  };
}
