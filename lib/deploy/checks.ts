/**
 * The questions of a verification, and their answers beside them. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { Capabilities } from "../facts.ts";
import type { ExtraHost, Host } from "../fleet.ts";
import type { NameTarget, PingTarget, ProbeRequest, ProbeResult } from "../host/protocol.ts";
import type { TreeState, WireguardState } from "../net/live_state.ts";
import type { ClockReading } from "./clocks.ts";

/** Pings of the network's full size; what each is of its target. */
export const PING_KINDS = ["access", "gateway", "intrawire"] as const;

/**
 * What is asked. `oversize-…`: one byte more must be refused or reported; `tcp-…`: real bytes over a real connection; `name`: at the
 * own gateway; `world`: from the gateway; `key`: the peer's key as this host has it; `tree`: RSTP; `path`: BFD; `clock`; `ssh`: a new
 * connection from the deployer.
 */
export type Kind =
  | typeof PING_KINDS[number]
  | "oversize-access"
  | "oversize-intrawire"
  | "tcp-access"
  | "tcp-intrawire"
  | "name"
  | "world"
  | "key"
  | "tree"
  | "path"
  | "clock"
  | "ssh";

/** How much is asked for: what a push can wait for, or everything. */
export type Depth = "quick" | "full";

/** One question to one host. */
export interface Check {
  readonly kind: Kind;
  /** Host name of the target, or the name to be resolved. */
  readonly to: string;
  /** The address to be reached, or expected for the name. */
  readonly address: string;
  readonly from: PingTarget["from"] | "deployer";
  /** Id of the target, where it is a host. */
  readonly id?: number;
}

/** One question with its answer. */
export interface CheckResult extends Check {
  readonly ok: boolean;
  /** Milliseconds there and back. */
  readonly roundTrip?: number;
  /** What was found, where that is not simply an answer or none. */
  readonly found?: string;
  readonly expected?: string;
  /** Bytes of the largest packet that passes, where a full one does not; 0 for none. */
  readonly passes?: number;
}

/** What a host told of itself. */
export interface Evidence {
  /** Largest packets, bytes. */
  readonly mtus?: { readonly wireguard: number; readonly access: number };
  readonly wireguard?: WireguardState;
  /** As it was at the first question, to see what has moved since. */
  readonly wireguardBefore?: WireguardState;
  readonly tree?: TreeState;
  readonly paths?: ProbeResult["paths"];
  /** Gateway of another host by which default traffic leaves meanwhile. */
  readonly egress?: string;
  readonly clock?: ClockReading;
  /** Why nothing listens there, if that is so. */
  readonly deaf?: string;
}

/** Everything one host answered, or why it did not. */
export interface HostVerification {
  readonly hostname: string;
  readonly id: number;
  readonly capabilities?: Capabilities;
  readonly results: readonly CheckResult[];
  readonly evidence?: Evidence;
  /** The host itself could not be asked. */
  readonly error?: string;
}

/** The answers of all hosts, in the order of the targets. */
export interface Verification {
  readonly ok: boolean;
  /** Host names that were targets: the columns of the matrix. */
  readonly targets: readonly string[];
  readonly hosts: readonly HostVerification[];
}

/** Whether a check is a ping from one address to another. */
export function isPing({ kind }: Pick<Check, "kind">): boolean {
  return PING_KINDS.some((ping) => ping === kind);
}

/** Whether a host was asked and everything it was asked for answered. */
export function isFine({ error, results }: HostVerification): boolean {
  return error === undefined && results.every(({ ok }) => ok);
}

/** All questions for one host: every other host's addresses, its own gateway, and every name. */
export function checksFor(
  self: Host,
  targets: readonly Host[],
  extraHosts: readonly ExtraHost[],
  depth: Depth = "quick",
): readonly Check[] {
  // A host whose `veth_fac0` was left blank has no address to ask from: its gateway asks in its place.
  const from = self.access === "auto" ? "host" : "gateway";
  const ofHosts = targets.flatMap((target): Check[] => {
    const { access, gateway, intrawire } = hostAddresses(target.id);
    const { hostname: to, id } = target;
    const onAccess = { to, address: gateway, from, id } as const;
    if (id === self.id) return [{ kind: "gateway", ...onAccess }];
    const onIntrawire = { to, address: intrawire, from: "host", id } as const;
    return [
      ...target.access === "auto" ? [{ kind: "access", to, address: access, from, id } as const] : [],
      { kind: "gateway", ...onAccess },
      { kind: "intrawire", ...onIntrawire },
      ...depth === "full"
        ? [
          { kind: "oversize-access", ...onAccess },
          { kind: "oversize-intrawire", ...onIntrawire },
          { kind: "tcp-access", ...onAccess },
          { kind: "tcp-intrawire", ...onIntrawire },
        ] as const
        : [],
    ];
  });
  const names = [
    ...targets.map(({ hostname, id }) => ({ to: hostname, address: hostAddresses(id).access })),
    ...extraHosts.map(({ hostname, address }) => ({ to: hostname, address })),
  ].map((name): Check => ({ kind: "name", from: "gateway", ...name }));
  const world: Check = { kind: "world", to: "the world", address: "", from: "gateway" };
  return [...ofHosts, ...names, ...depth === "full" ? [world] : []];
}

/** Questions → the request of the protocol. */
export function probeRequest(checks: readonly Check[]): ProbeRequest {
  const targets = (...prefixes: string[]) => checks.filter(({ kind }) => prefixes.includes(kind)).map(target);
  const oversize = targets("oversize-access", "oversize-intrawire");
  const dials = checks.filter(({ kind }) => kind.startsWith("tcp-"))
    .map((check) => ({ ...target(check), id: check.id ?? 0 }));
  return {
    pings: targets(...PING_KINDS),
    names: checks.filter(({ kind }) => kind === "name").map(({ to, address }): NameTarget => ({
      name: to,
      address,
    })),
    ...oversize.length > 0 ? { oversize } : {},
    ...dials.length > 0 ? { dials } : {},
    ...checks.some(({ kind }) => kind === "world") ? { world: true } : {},
  };
}

function target({ address, from }: Check): PingTarget {
  return { address, from: from === "gateway" ? "gateway" : "host" };
}

/** Puts the answers, which come in the request's order, beside their questions. */
export function judge(checks: readonly Check[], result: ProbeResult): readonly CheckResult[] {
  const next = {
    ping: result.pings.values(),
    passes: result.passes?.values(),
    name: result.names.values(),
    oversize: result.oversize?.values(),
    dial: result.dials?.values(),
  };
  return checks.map(({ kind, to, address, from, id }): CheckResult => {
    const check = { kind, to, address, from, ...(id === undefined ? {} : { id }) };
    if (kind === "name") {
      const found = next.name.next().value ?? undefined;
      return { ...check, ok: found === address, ...(found ? { found } : {}) };
    }
    if (kind === "world") {
      const wrong = result.world ?? ["nothing was asked: the host has an older mobula"];
      return { ...check, ok: wrong.length === 0, ...(wrong.length > 0 ? { found: wrong.join("; ") } : {}) };
    }
    if (kind.startsWith("oversize-")) {
      const found = next.oversize?.next().value;
      return { ...check, ok: found === "refused" || found === "reported", ...(found ? { found } : {}) };
    }
    if (kind.startsWith("tcp-")) {
      const outcome = next.dial?.next().value ?? { error: "nothing was asked: the host has an older mobula" };
      return "error" in outcome
        ? { ...check, ok: false, found: outcome.error }
        : { ...check, ok: true, roundTrip: outcome.milliseconds };
    }
    const roundTrip = next.ping.next().value ?? undefined;
    const passes = next.passes?.next().value ?? undefined;
    return {
      ...check,
      ok: roundTrip !== undefined,
      ...(roundTrip === undefined ? {} : { roundTrip }),
      ...(roundTrip === undefined && passes !== undefined ? { passes } : {}),
    };
  });
}
