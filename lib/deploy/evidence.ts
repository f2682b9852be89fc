/**
 * What hosts tell of themselves, put beside what the others tell: keys, tree, watched paths, clocks. Pure.
 */
import { hostAddresses } from "../address.ts";
import type { Host } from "../fleet.ts";
import type { PathState, TreePortState, TreeState } from "../net/live_state.ts";
import type { CheckResult, Depth, HostVerification } from "./checks.ts";
import { CLOCK_TOLERANCE, judgeClocks, renderOffset } from "./clocks.ts";

/** What the evidence is compared with. */
export interface EvidenceOptions {
  readonly targets: readonly Host[];
  readonly depth: Depth;
  /** Public keys by external address, as `wireguard_pubkeys.yml` or `hosts.yml` has them; not compared unless given. */
  readonly pubkeys?: ReadonlyMap<string, string>;
}

/** All hosts with the checks that only all answers together decide. */
export function withEvidence(
  hosts: readonly HostVerification[],
  options: EvidenceOptions,
): readonly HostVerification[] {
  const full = options.depth === "full";
  const trees = full ? treeChecks(hosts, options.targets) : new Map<number, CheckResult[]>();
  const clocks = full ? clockChecks(hosts) : new Map<number, CheckResult[]>();
  return hosts.map((host) => ({
    ...host,
    results: [
      ...host.results,
      ...keyChecks(host, hosts, options),
      ...trees.get(host.id) ?? [],
      ...full ? pathChecks(host, options.targets) : [],
      ...clocks.get(host.id) ?? [],
    ],
  }));
}

/** Whether this host's WireGuard knows every other one by the key that the other really uses. */
function keyChecks(
  { id, hostname, evidence }: HostVerification,
  hosts: readonly HostVerification[],
  { targets, pubkeys }: EvidenceOptions,
): CheckResult[] {
  const own = evidence?.wireguard;
  if (!own) return [];
  const used = (host: Host) =>
    hosts.find((other) => other.id === host.id)?.evidence?.wireguard?.publicKey ?? pubkeys?.get(host.address);
  return targets.flatMap((target): CheckResult[] => {
    const check = {
      kind: "key",
      to: target.hostname,
      address: target.address,
      from: "gateway",
      id: target.id,
    } as const;
    if (target.id === id) {
      const listed = pubkeys?.get(target.address);
      if (listed === undefined) return [];
      return [{
        ...check,
        ok: listed === own.publicKey,
        to: hostname,
        found: own.publicKey,
        expected: listed,
      }];
    }
    const expected = used(target);
    if (expected === undefined) return [];
    const address = `${hostAddresses(target.id).intrawire}/32`;
    const found = own.peers.find(({ allowedIps }) => allowedIps.includes(address))?.publicKey;
    return [{ ...check, ok: found === expected, expected, ...(found ? { found } : {}) }];
  });
}

/** The port towards a peer is named after the peer's id. */
const PEER_PORT = /-(\d+)$/;

function treeChecks(
  hosts: readonly HostVerification[],
  targets: readonly Host[],
): ReadonlyMap<number, CheckResult[]> {
  const trees = new Map(hosts.flatMap(({ id, evidence }) => evidence?.tree ? [[id, evidence.tree]] : []));
  const root = commonRoot([...trees.values()]);
  return new Map([...trees].map(([id, tree]) => {
    const own = hosts.find((host) => host.id === id)!;
    const check = { kind: "tree", address: "", from: "gateway" } as const;
    const wrong = bridgeProblem(tree, root, targets);
    const whole: CheckResult = {
      ...check,
      to: own.hostname,
      id,
      ok: wrong === undefined,
      ...(wrong ? { found: wrong } : {}),
    };
    const ends = targets.filter((target) => target.id !== id).flatMap((target): CheckResult[] => {
      const port = portTo(tree, target.id);
      const other = trees.get(target.id);
      const back = other && portTo(other, id);
      if (!port && !back) return [];
      const found = portProblem(port, back);
      const { hostname: to, id: peer } = target;
      return [{ ...check, to, id: peer, ok: found === undefined, ...(found ? { found } : {}) }];
    });
    return [id, [whole, ...ends]];
  }));
}

function portTo({ ports }: TreeState, id: number): TreePortState | undefined {
  return ports.find(({ name }) => Number(PEER_PORT.exec(name)?.[1]) === id);
}

/** The root that most bridges name. */
function commonRoot(trees: readonly TreeState[]): string | undefined {
  const count = (root: string) => trees.filter((tree) => tree.root === root).length;
  return [...new Set(trees.map(({ root }) => root))].sort((a, b) =>
    count(b) - count(a) || (a < b ? -1 : 1)
  )[0];
}

function bridgeProblem(
  { root, bridge, ports }: TreeState,
  common: string | undefined,
  targets: readonly Host[],
): string | undefined {
  if (root !== common) {
    return `its root is ${nameOfBridge(root, targets)}; expected ${nameOfBridge(common ?? "", targets)}`;
  }
  const up = ports.filter(({ role }) => role === "Root").length;
  if (root === bridge) return up === 0 ? undefined : "it is the root and has a root port";
  return up === 1 ? undefined : `it has ${up} root ports; expected 1`;
}

/** A bridge's identifier ends with a MAC of ours, which holds its host's id. */
export function nameOfBridge(identifier: string, targets: readonly Host[]): string {
  const [, high = "", low = ""] = /\.02:6d:6f:([0-9a-f]{2}):([0-9a-f]{2}):/.exec(identifier) ?? [];
  const id = parseInt(high + low, 16);
  return targets.find((target) => target.id === id)?.hostname ?? identifier;
}

/** What is wrong with a port, seen from its own end; `back` is the other end's, where it is known. */
function portProblem(port: TreePortState | undefined, back: TreePortState | undefined): string | undefined {
  if (!port) return "it has no port there that takes part in the tree, but the other end has one";
  const { role, state } = port;
  if (role === "Disabled") return "its port there is disabled";
  const wanted = role === "Root" || role === "Designated" ? "Forwarding" : "Discarding";
  if (state !== wanted) return `its port there is ${role} and ${state}; expected ${wanted}`;
  if (role === "Designated" && back?.role === "Designated") {
    return "both ends are Designated: neither hears the other";
  }
  if (role !== "Designated" && back && back.role !== "Designated") {
    return `its port there is ${role}, and so is no end Designated`;
  }
  return undefined;
}

/** Paths that are watched (BFD); none are unless configured. */
function pathChecks({ evidence }: HostVerification, targets: readonly Host[]): CheckResult[] {
  return (evidence?.paths ?? []).map((path): CheckResult => {
    const peer = targets.find(({ id }) => id === Number(PEER_PORT.exec(path.name)?.[1]));
    const found = pathProblem(path, targets);
    return {
      kind: "path",
      to: peer?.hostname ?? path.name,
      address: path.name,
      from: "gateway",
      ...(peer ? { id: peer.id } : {}),
      ok: found === undefined,
      ...(found === undefined ? {} : { found }),
    };
  });
}

/** Why a path is not used, and who carries its traffic. */
function pathProblem({ name, up, held, over }: PathState, targets: readonly Host[]): string | undefined {
  if (up && !held) return undefined;
  const why = up ? `${name} is held back for a while, because it has just died` : `${name} is down`;
  const third = targets.find(({ id }) => id === over);
  return third ? `${why}; ${third.hostname} carries its traffic` : why;
}

function clockChecks(hosts: readonly HostVerification[]): ReadonlyMap<number, CheckResult[]> {
  const readings = new Map(
    hosts.flatMap(({ id, evidence }) => evidence?.clock ? [[id, evidence.clock]] : []),
  );
  const verdict = judgeClocks(readings);
  return new Map([...verdict.hosts].map(([id, offset]) => {
    const ok = Math.abs(offset) <= CLOCK_TOLERANCE;
    const found = ok ? {} : { found: renderOffset(offset) };
    return [id, [{ kind: "clock", to: "the other clocks", address: "", from: "deployer", ok, ...found }]];
  }));
}

/** The deployer's own clock, where most hosts agree on another time. */
export function deployerClock(hosts: readonly HostVerification[]): string | undefined {
  const readings = new Map(
    hosts.flatMap(({ id, evidence }) => evidence?.clock ? [[id, evidence.clock]] : []),
  );
  const { deployer } = judgeClocks(readings);
  return Math.abs(deployer) > CLOCK_TOLERANCE ? renderOffset(deployer) : undefined;
}
