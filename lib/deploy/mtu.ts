/**
 * The underlay's MTU that the hosts agree on. Pure.
 */
import { LEAST_TAKEN_MTU, MTU_RANGE } from "../address.ts";
import type { Fleet } from "../fleet.ts";

/** What one host has to say about it, in bytes. */
export interface HostMtus {
  /** Of its network card, as it was before mobula. */
  readonly underlayMtu: number;
  /** What the fleet has agreed on when this host was last pushed to. */
  readonly fleetMtu?: number;
}

/** Ethernet's. */
const USUAL_MTU = 1500;

/** By id: what is wrong with a host's MTU, where the fleet would have to follow it. Nothing where hosts.yml says the fleet's. */
export function refusedMtus(
  { underlayMtu }: Pick<Fleet, "underlayMtu">,
  present: readonly (HostMtus & { readonly id: number })[],
): ReadonlyMap<number, string> {
  if (underlayMtu !== undefined) return new Map();
  const refused = present.filter((host) => host.underlayMtu < LEAST_TAKEN_MTU);
  return new Map(refused.map((host) => [
    host.id,
    `Cannot take the MTU of the network card: ${host.underlayMtu} bytes, which all hosts would have to follow; expected ` +
    `${LEAST_TAKEN_MTU} or more. Set a larger one on the host, or mobula_mtu in the vars of hosts.yml ` +
    `(${MTU_RANGE[0]} or more)`,
  ]));
}

/** The hosts whose network cards take less than those of others, and so lower everybody's MTU; none where hosts.yml says it. */
export function loweringHosts<T extends HostMtus>(
  { underlayMtu }: Pick<Fleet, "underlayMtu">,
  present: readonly T[],
): readonly T[] {
  const mtus = present.map((host) => host.underlayMtu);
  const [least, most] = [Math.min(...mtus), Math.max(...mtus)];
  return underlayMtu !== undefined || least === most
    ? []
    : present.filter((host) => host.underlayMtu === least);
}

/**
 * The smallest one, unless `mobula_mtu` says another. Whoever is not here may have the smallest one: what was agreed on before must not
 * grow behind its back.
 */
export function agreedMtu(
  fleet: Pick<Fleet, "hosts" | "underlayMtu">,
  present: readonly HostMtus[],
): number {
  const isComplete = present.length === fleet.hosts.length;
  const mtus = present.flatMap(({ underlayMtu, fleetMtu }) => [
    underlayMtu,
    ...(isComplete || fleetMtu === undefined ? [] : [fleetMtu]),
  ]);
  return fleet.underlayMtu ?? (mtus.length > 0 ? Math.min(...mtus) : USUAL_MTU);
}
