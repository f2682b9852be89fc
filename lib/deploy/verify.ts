/**
 * Does every host reach every other one? Builds the questions for the hosts, judges the answers. Effects: only through the
 * connections it is given.
 */
import { hostAddresses } from "../address.ts";
import type { Capabilities } from "../facts.ts";
import type { ExtraHost, Host } from "../fleet.ts";
import type { NameTarget, PingTarget, ProbeRequest, ProbeResult } from "../host/protocol.ts";
import { callHost, type Executor } from "./host_call.ts";
import { inParallel, type Patience, pause } from "./parallel.ts";

/** What a target is of its host; `name` is a question to the own gateway's resolver. */
export type Kind = "access" | "gateway" | "intrawire" | "name";

/** One question to one host. */
export interface Check {
  readonly kind: Kind;
  /** Host name of the target, or the name to be resolved. */
  readonly to: string;
  /** The address to be pinged, or expected for the name. */
  readonly address: string;
  readonly from: PingTarget["from"];
}

/** One question with its answer. */
export interface CheckResult extends Check {
  readonly ok: boolean;
  /** Milliseconds there and back. */
  readonly roundTrip?: number;
  /** For names: what was found instead. */
  readonly found?: string;
}

/** Everything one host answered, or why it did not. */
export interface HostVerification {
  readonly hostname: string;
  readonly id: number;
  readonly capabilities?: Capabilities;
  readonly results: readonly CheckResult[];
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

/** A host that can be asked. */
export interface Prober {
  readonly host: Host;
  readonly ssh: Executor;
}

/** What to ask for, and how many at a time. */
export interface VerifyOptions extends Patience {
  /** All hosts that must be reached. */
  readonly targets: readonly Host[];
  readonly extraHosts: readonly ExtraHost[];
  readonly parallel: number;
  readonly onProgress?: (hostname: string, text: string) => void;
}

/** All questions for one host: every other host's addresses, its own gateway, and every name. */
export function checksFor(
  self: Host,
  targets: readonly Host[],
  extraHosts: readonly ExtraHost[],
): readonly Check[] {
  // A host whose `veth_fac0` was left blank has no address to ask from: its gateway asks in its place.
  const from = self.access === "auto" ? "host" : "gateway";
  const pings = targets.flatMap((target): Check[] => {
    const { access, gateway, intrawire } = hostAddresses(target.id);
    const to = target.hostname;
    const own = target.id === self.id;
    return [
      ...target.access === "auto" && !own ? [{ kind: "access", to, address: access, from } as const] : [],
      { kind: "gateway", to, address: gateway, from },
      ...own ? [] : [{ kind: "intrawire", to, address: intrawire, from: "host" } as const],
    ];
  });
  const names = [
    ...targets.map(({ hostname, id }) => ({ to: hostname, address: hostAddresses(id).access })),
    ...extraHosts.map(({ hostname, address }) => ({ to: hostname, address })),
  ].map((name): Check => ({ kind: "name", from: "gateway", ...name }));
  return [...pings, ...names];
}

/** Asks all hosts, and asks again for what failed until everything answers or the deadline has passed. */
export async function verify(probers: readonly Prober[], options: VerifyOptions): Promise<Verification> {
  const hosts = new Map<number, HostVerification>();
  await inParallel(probers, options.parallel, async (prober) => {
    hosts.set(prober.host.id, await verifyHost(prober, options));
  });
  const answered = probers.map(({ host }) => hosts.get(host.id)!);
  return {
    ok: answered.every(isFine),
    targets: options.targets.map(({ hostname }) => hostname),
    hosts: answered,
  };
}

/** Whether a host was asked and everything it was asked for answered. */
export function isFine({ error, results }: HostVerification): boolean {
  return error === undefined && results.every(({ ok }) => ok);
}

async function verifyHost({ host, ssh }: Prober, options: VerifyOptions): Promise<HostVerification> {
  const { hostname, id } = host;
  const checks = checksFor(host, options.targets, options.extraHosts);
  let results: CheckResult[] = checks.map((check) => ({ ...check, ok: false }));
  let capabilities: Capabilities | undefined;
  try {
    while (true) {
      const open = results.filter(({ ok }) => !ok);
      options.onProgress?.(hostname, `ask for ${open.length} of ${checks.length} addresses and names`);
      const answer = await callHost(ssh, "probe", probeRequest(open));
      capabilities = answer.capabilities;
      const judged = judge(open, answer).values();
      results = results.map((result) => result.ok ? result : judged.next().value!);
      const rest = options.rest ?? 500;
      const done = results.every(({ ok }) => ok) || Date.now() + rest > options.deadline ||
        options.signal?.aborted;
      if (done) return { hostname, id, capabilities, results };
      await pause(rest);
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { hostname, id, ...(capabilities ? { capabilities } : {}), results, error: message };
  }
}

/** Questions → the request of the protocol. */
export function probeRequest(checks: readonly Check[]): ProbeRequest {
  return {
    pings: checks.filter(({ kind }) => kind !== "name").map(({ address, from }): PingTarget => ({
      address,
      from,
    })),
    names: checks.filter(({ kind }) => kind === "name").map(({ to, address }): NameTarget => ({
      name: to,
      address,
    })),
  };
}

/** Puts the answers, which come in the request's order, beside their questions. */
export function judge(checks: readonly Check[], { pings, names }: ProbeResult): readonly CheckResult[] {
  const [nextPing, nextName] = [pings.values(), names.values()];
  return checks.map(({ kind, to, address, from }): CheckResult => {
    const check = { kind, to, address, from };
    if (kind === "name") {
      const found = nextName.next().value ?? undefined;
      return { ...check, ok: found === address, ...(found ? { found } : {}) };
    }
    const roundTrip = nextPing.next().value ?? undefined;
    return { ...check, ok: roundTrip !== undefined, ...(roundTrip === undefined ? {} : { roundTrip }) };
  });
}
