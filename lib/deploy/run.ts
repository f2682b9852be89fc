/**
 * What one push knows while it runs: the fleet, and per host how far it came. State only; phases fill it.
 */
import type { HostFacts } from "../facts.ts";
import type { Fleet, Host } from "../fleet.ts";
import type { HostPreview, PreviewBasis } from "../host/preview.ts";
import type { ActivateResult, PrepareResult, StageResult } from "../host/protocol.ts";
import type { PhaseTitle, Progress } from "../ui/progress.ts";
import type { HostPublicKey } from "../config/pubkeys.ts";
import type { LazyPackage } from "./pack.ts";
import type { HostCalls } from "./host_calls.ts";
import type { HostLock } from "./push_lock.ts";
import type { SshRunner } from "./ssh.ts";
import type { Verification } from "./verify.ts";

/** What the command line asks of a push. */
export interface PushOptions {
  readonly hostsPath: string;
  /** Names, ids or addresses; empty for all. */
  readonly limit: readonly string[];
  /** Hosts at a time. */
  readonly parallel: number;
  readonly reboot: boolean;
  readonly keepKeys: boolean;
  readonly reinstall: boolean;
  readonly sshConfig?: string;
  readonly acceptNewHostKeys: boolean;
  /** Executable to put on the hosts instead of this program's own. */
  readonly executable?: string;
  /** Seconds after which a host goes back by itself unless it was confirmed. */
  readonly confirmTimeout?: number;
  /** Of an uninstallation: also remove the packages that an installation has brought. */
  readonly purge?: boolean;
  /** Interrupts the push. */
  readonly signal?: AbortSignal;
}

/** Why and where a host dropped out. */
export interface HostFailure {
  readonly phase: string;
  readonly message: string;
}

/** One host on its way through the phases. */
export interface HostRun {
  readonly host: Host;
  readonly ssh: SshRunner;
  readonly calls: HostCalls;
  /** Wall-clock seconds of each phase it went through. */
  readonly seconds: Map<string, number>;
  readonly notes: string[];
  failure?: HostFailure;
  facts?: HostFacts;
  /** The executable was sent, not found there. */
  copied?: boolean;
  prepared?: PrepareResult;
  staged?: StageResult;
  activated?: ActivateResult;
  rebooted?: boolean;
  /** Until it is confirmed: the timer that asks the host for more time as long as the push is there. */
  keeper?: ReturnType<typeof setInterval>;
  /** It was not confirmed: why. */
  unconfirmed?: string;
  /** Public key of the generation that the host goes back to. */
  earlierKey?: string;
  /** The key that its running network uses, where it goes back to an earlier one. */
  liveKey?: string;
  /** It was told of new keys. */
  announced?: boolean;
  /** There was nothing of ours on it. */
  bare?: boolean;
  basis?: PreviewBasis;
  preview?: HostPreview;
  lock?: HostLock;
  /** Another push that has the host. */
  heldBy?: string;
}

/** One push. Everything that is optional is missing until its phase has run. */
export interface PushRun {
  readonly options: PushOptions;
  readonly progress: Progress;
  /** Temporary folder of this run, mode 0700. */
  readonly directory: string;
  phase: PhaseTitle;
  fleet: Fleet;
  /** `wireguard_pubkeys.yml`, by external address. */
  pubkeys: ReadonlyMap<string, HostPublicKey>;
  /** The same as it was read. */
  loadedPubkeys?: ReadonlyMap<string, HostPublicKey>;
  /** The hosts this push is about, by ascending id. */
  hosts: HostRun[];
  package?: Promise<LazyPackage>;
  /** Of a plan: SHA-256 (hex) of the executable that a push would send; undefined where a push would have to make it first. */
  sends?: { readonly hash: string | undefined };
  keyPolicy?: "keep" | "rotate";
  /** Bytes. */
  underlayMtu?: number;
  verification?: Verification;
  /** Who this push is on the hosts, and until the first of them has been asked, that. */
  lock?: { readonly id: string; readonly who: string; first?: Promise<void> };
}

/** The key that a host uses now, if it uses any, and the one it is to use; undefined as long as neither is known. */
export function keysOf(run: HostRun): { readonly live?: string; readonly next: string } | undefined {
  const next = run.earlierKey ?? run.prepared?.publicKey;
  const live = run.liveKey ?? run.prepared?.liveKey;
  return next === undefined ? undefined : { next, ...(live === undefined ? {} : { live }) };
}

/** The hosts that are still in. */
export function alive(push: PushRun): HostRun[] {
  return push.hosts.filter(({ failure }) => failure === undefined);
}

/** Takes a host out of the push and says so. */
export function dropOut(run: HostRun, push: PushRun, message: string): void {
  run.failure = { phase: push.phase.name, message };
  push.progress.failed(run.host.hostname, push.phase, message);
}
