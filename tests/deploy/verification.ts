/**
 * Verifications for tests: a fleet in which everything answers, and ways to break it. Pure.
 */
import { hostAddresses } from "../../lib/address.ts";
import { type CheckResult, checksFor, type Evidence, type Verification } from "../../lib/deploy/checks.ts";
import { withEvidence } from "../../lib/deploy/evidence.ts";
import type { Host } from "../../lib/fleet.ts";
import type { TreePortState } from "../../lib/net/live_state.ts";
import { hostOf } from "./fleet.ts";

/** Names by id; ids from 1. */
export const NAMES = ["alpha", "beta", "gamma", "delta"] as const;

/** How a verification differs from one in which everything is well. */
export interface Breakage {
  /** Changes the answer of one host; what it does not return stays. */
  readonly answer?: (from: string, result: CheckResult) => Partial<CheckResult> | undefined;
  /** Changes what one host tells of itself. */
  readonly evidence?: (name: string, evidence: Evidence) => Evidence;
  /** Hosts that cannot be asked, with the reason. */
  readonly errors?: Readonly<Record<string, string>>;
  readonly hosts?: readonly Host[];
}

/** The hosts, each with an access address. */
export function fleet(count = 3): Host[] {
  return NAMES.slice(0, count).map((hostname, index) => hostOf(index + 1, { hostname }));
}

/** The key that a host of these verifications uses. */
export function keyOf(name: string): string {
  return `${name.padEnd(43, "0")}=`;
}

/** Everything is well but what is broken on purpose. */
export function verification(breakage: Breakage = {}): Verification {
  const { hosts = fleet(), errors = {} } = breakage;
  const answered = hosts.map((host) => {
    const { hostname, id } = host;
    const error = errors[hostname];
    if (error !== undefined) return { hostname, id, results: [], error };
    const evidence = evidenceOf(host, hosts);
    return {
      hostname,
      id,
      capabilities: { wireguard: "kernel", datapath: "system" } as const,
      results: checksFor(host, hosts, [], "full").map((check) => {
        const well: CheckResult = { ...check, ok: true, roundTrip: 1 };
        return { ...well, ...breakage.answer?.(hostname, well) };
      }),
      evidence: breakage.evidence?.(hostname, evidence) ?? evidence,
    };
  });
  const pubkeys = new Map(hosts.map(({ address, hostname }) => [address, keyOf(hostname)]));
  const judged = withEvidence(answered, { targets: hosts, depth: "full", pubkeys });
  const ok = judged.every(({ error, results }) =>
    error === undefined && results.every((result) => result.ok)
  );
  return { ok, targets: hosts.map(({ hostname }) => hostname), hosts: judged };
}

/** The first host is the root, and every other one hangs on it. */
function evidenceOf(self: Host, hosts: readonly Host[]): Evidence {
  const others = hosts.filter(({ id }) => id !== self.id);
  const wireguard = {
    publicKey: keyOf(self.hostname),
    peers: others.map(({ hostname, id }) => ({
      publicKey: keyOf(hostname),
      allowedIps: [`${hostAddresses(id).intrawire}/32`],
      handshake: Math.floor(Date.now() / 1000) - 60,
      received: 1000,
      sent: 1000,
    })),
  };
  return {
    mtus: { wireguard: 1440, access: 1386 },
    wireguard,
    wireguardBefore: wireguard,
    tree: {
      root: bridgeOf(hosts[0]!),
      bridge: bridgeOf(self),
      ports: others.map(({ id }) => treePort(self.id, id)),
    },
    paths: [],
    clock: { low: -20, high: 120 },
  };
}

function bridgeOf({ id }: Host): string {
  return `32768.02:6d:6f:00:0${id}:0c`;
}

function treePort(self: number, peer: number): TreePortState {
  const name = `mo-t-${peer}`;
  if (self === 1) return { name, role: "Designated", state: "Forwarding" };
  if (peer === 1) return { name, role: "Root", state: "Forwarding" };
  return self < peer
    ? { name, role: "Designated", state: "Forwarding" }
    : { name, role: "Alternate", state: "Discarding" };
}

/** The counters of one peer moved by so much since the first question. */
export function moved(
  evidence: Evidence,
  peer: string,
  by: { readonly received?: number; readonly sent?: number; readonly handshake?: number },
): Evidence {
  const peers = evidence.wireguard!.peers.map((state) =>
    state.publicKey !== keyOf(peer) ? state : {
      ...state,
      received: state.received + (by.received ?? 0),
      sent: state.sent + (by.sent ?? 0),
      handshake: by.handshake ?? state.handshake,
    }
  );
  return { ...evidence, wireguard: { ...evidence.wireguard!, peers } };
}
