/**
 * What deployer and host say to each other: `mobula host <verb>` reads one request as JSON on its standard input and answers with
 * JSON lines, any number of `step` events and then one `result` or `error`. Types only, and one word.
 */
import type { Capabilities } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import type { PathState, TreeState, WireguardState } from "../net/live_state.ts";

/** One line of a host's answer. */
export type HostEvent =
  | { readonly event: "step"; readonly title: string }
  | { readonly event: "result"; readonly result: unknown }
  | { readonly event: "error"; readonly kind: string; readonly message: string };

/** One line of what a session reads (`mobula host session`): a verb with its request. `id` is the caller's, and comes with each event. */
export interface SessionRequest {
  readonly id: number;
  readonly verb: string;
  readonly request: unknown;
}

/** One line of what a session answers. */
export type SessionEvent = { readonly event: "ready" } | (HostEvent & { readonly id: number });

/** Install packages, read or make keys, remember the baseline, probe the kernel. */
export interface PrepareRequest {
  readonly keys: "keep" | "rotate";
  /** From `hosts.yml`; the only secret that ever travels, because it was written there. */
  readonly pinnedKeys?: { readonly publicKey: string; readonly privateKey: string };
  readonly reinstall: boolean;
  readonly sshPort: number;
  /** SHA-256 (hex) of the executable as the push has found or put it here. */
  readonly executableHash?: string;
}

/** The answer to `prepare`. */
export interface PrepareResult {
  /** Base64; the key that the coming generation will use. */
  readonly publicKey: string;
  readonly capabilities: Capabilities;
  /** No generation was active before. */
  readonly newlyInstalled: boolean;
  readonly packagesInstalled: readonly string[];
  /** MTU of the external interface, bytes. */
  readonly underlayMtu: number;
  /** The fleet's smallest underlay MTU as the host knew it until now, bytes. */
  readonly fleetMtu?: number;
  /** The key that the running network uses; missing where there is none yet. */
  readonly liveKey?: string;
  /** A replacement of keys has been left unfinished. */
  readonly knowsKeys?: boolean;
}

/** Know the keys that hosts may be using: by host id, the newest last. */
export interface AnnounceRequest {
  readonly hosts: Readonly<Record<string, readonly string[]>>;
}

/** The answer to `announce`. */
export interface AnnounceResult {
  /** False on a host that has no network of ours yet. */
  readonly following: boolean;
}

/** The answer to `take-key` (its request is empty). */
export interface TakeKeyResult {
  /** False: it was used already. */
  readonly taken: boolean;
  /** Names of the hosts from which no handshake was seen in time. */
  readonly unanswered: readonly string[];
}

/** Forget all keys of these hosts but the configured ones. */
export interface ForgetRequest {
  readonly ids: readonly number[];
}

/** The answer to `forget`. */
export interface ForgetResult {
  /** Hosts of which several keys are still known. */
  readonly left: number;
}

/** Render a generation and let every file be checked by its own tool. */
export interface StageRequest {
  readonly config: HostConfig;
}

/** The answer to `stage`. */
export interface StageResult {
  readonly generation: number;
  /** Whether the staged generation differs from the current one. */
  readonly changed: boolean;
  /** Paths that differ. */
  readonly files: readonly string[];
}

/** Make the staged generation the current one and bring the live network to it. */
export interface ActivateRequest {
  readonly generation: number;
  /** Seconds after which the host goes back by itself unless `confirm` has come; 120 unless told. */
  readonly confirmSeconds?: number;
}

/** The answer to `activate`. */
export interface ActivateResult {
  /** True: the external interface is about to move; this connection will die, a new one is needed, then `status`. */
  readonly cutsConnection: boolean;
  /** Titles of the steps taken, empty when there was nothing to do. */
  readonly steps: readonly string[];
}

/** Ask how the last activation went. */
export interface StatusRequest {
  /** Where it is done but not confirmed: give it so many seconds from now. */
  readonly extendSeconds?: number;
  /** Milliseconds to wait for the end of an activation that is under way. */
  readonly waitMilliseconds?: number;
  /** Wait no longer than until the external interface is about to move, which ends the connection over which this is asked. */
  readonly untilCut?: boolean;
}

/** The answer to `status`: how the last activation went. */
export interface StatusResult {
  readonly generation: number;
  /** `rolledback`: nobody confirmed in time, and the host went back by itself. */
  readonly activation: "running" | "done" | "failed" | "rolledback";
  /** Why it failed or went back, with the last lines of what was said. */
  readonly error?: string;
  readonly capabilities: Capabilities;
  /** Kernel's boot id: differs after a reboot. */
  readonly bootId: string;
  /** The external interface is about to move, or has moved: ask again over a new connection. */
  readonly cut?: boolean;
}

/** Reach every target, resolve every name, and tell what can only be seen on the host. An older host answers `pings` and `names` alone. */
export interface ProbeRequest {
  readonly pings: readonly PingTarget[];
  readonly names: readonly NameTarget[];
  /** To be asked with a packet of one byte more than the network takes. */
  readonly oversize?: readonly PingTarget[];
  /** Listeners of other hosts (verb `listen`) that bytes are exchanged with. */
  readonly dials?: readonly DialTarget[];
  /** Look from the gateway towards the world. */
  readonly world?: boolean;
  /** Find the largest packet that passes to each of `pings` that does not answer. */
  readonly measure?: boolean;
  /** Timeout of one answer, whole seconds; default: 2. */
  readonly timeout?: number;
  /** Before anything is asked, wait up to a second for direct paths that have not been up yet. */
  readonly settle?: boolean;
}

/** One address to be pinged with a packet of the network's full size, from the host itself or from its gateway's namespace. */
export interface PingTarget {
  readonly address: string;
  readonly from: "host" | "gateway";
}

/** One name to be resolved at the host's own gateway; `address` where one is expected. */
export interface NameTarget {
  readonly name: string;
  readonly address?: string;
}

/** One listener; it says which host it belongs to. */
export interface DialTarget extends PingTarget {
  readonly id: number;
  /** Milliseconds for the connection to stand; 3000 unless told. */
  readonly patience?: number;
}

/** The answer to `probe`; the lists are in the order of the request. */
export interface ProbeResult {
  /** Round-trip time in milliseconds; null for no answer. */
  readonly pings: readonly (number | null)[];
  /** The address found; null for none. */
  readonly names: readonly (string | null)[];
  readonly capabilities: Capabilities;
  /** Clock in milliseconds since 1970, at the end. */
  readonly clock: number;
  /** The same at the beginning. */
  readonly started?: number;
  /** Largest packets (bytes, with the IP header) of the networks by this host's configuration. */
  readonly mtus?: { readonly wireguard: number; readonly access: number };
  readonly oversize?: readonly OversizeOutcome[];
  readonly dials?: readonly DialOutcome[];
  /** What is wrong on the way to the world, empty where nothing is. */
  readonly world?: readonly string[];
  /** Bytes of the largest packet that passes; 0 for none, null where a full one did. */
  readonly passes?: readonly (number | null)[];
  readonly wireguard?: WireguardState;
  readonly tree?: TreeState;
  /** Gateway of another host by which default traffic leaves meanwhile. */
  readonly egress?: string;
  /** Watched paths (BFD), by the name of their interface; none where BFD is not configured. */
  readonly paths?: readonly PathState[];
}

/** What became of one byte too many; only `answered` and `lost` are wrong. */
export type OversizeOutcome = "refused" | "reported" | "answered" | "lost";

/** Milliseconds that the exchange took, or why there was none. */
export type DialOutcome = { readonly milliseconds: number } | { readonly error: string };

/** Hold listeners on the intrawire and on the gateway's access address until standard input ends. */
export interface ListenRequest {
  /** After so long at the latest. */
  readonly seconds: number;
}

/** The answer to `listen`, once there is nothing to listen for any more; before, a step says `LISTENING`. */
export interface ListenResult {
  readonly served: number;
}

/** The step that `listen` reports when both listeners are up. */
export const LISTENING = "listening";

/** The activation has proved itself over a new connection: the host need not go back. */
export interface ConfirmRequest {
  /** What is confirmed; anything that is current unless told. */
  readonly generation?: number;
}

/** The answer to `confirm`: the installation is complete. */
export interface ConfirmResult {
  readonly generation: number;
}

/** The answer to `reboot` (its request is empty); the connection dies soon after. */
export interface RebootResult {
  readonly bootId: string;
}

/** Give an armed host more time, because the deployer is still there. */
export interface ExtendRequest {
  readonly seconds: number;
}

/** The answer to `extend`. */
export interface ExtendResult {
  readonly armed: boolean;
}

/** The answer to `earlier` (its request is empty): the generation before the current one. */
export interface EarlierResult {
  readonly generation: number;
  /** Base64; the host's own key in that generation. */
  readonly publicKey: string;
  /** The key that the running network uses. */
  readonly liveKey?: string;
}

/** Give the host's own network back and remove everything of ours. */
export interface UninstallRequest {
  /** Also the packages that an installation has brought. */
  readonly purge?: boolean;
}

/** The answer to `uninstall`; the connection may die soon after. */
export interface UninstallResult {
  readonly started: true;
  /** Packages that go, and those of ours that are held or needed by others. */
  readonly removing: readonly string[];
  readonly kept: readonly string[];
}
