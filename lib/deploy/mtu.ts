/**
 * The underlay's MTU that the hosts agree on. Pure.
 */
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
