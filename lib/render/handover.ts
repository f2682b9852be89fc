/**
 * In which order the direct paths of a switch that was restarted on purpose speak again. Pure.
 */
import type { HostConfig } from "../fleet.ts";
import { directPort, meshIds } from "../net/network.ts";
import { HEADER } from "./header.ts";

/** A line with the BFD interval (milliseconds), and one for each part, with the ports of its paths. */
export function renderHandover({ self, hosts, switching }: HostConfig): string {
  const peers = meshIds(hosts).filter((id) => id !== self);
  const lines = handoverOrder(self, peers).map((part) => part.map(directPort).join(" "));
  return `${[HEADER, `interval ${switching.bfdInterval}`, ...lines].join("\n")}\n`;
}

/**
 * The parts, one after the other, such that meanwhile the first of `relaysOf`, in either direction, is always in another one: every
 * second peer, the others, and at last the one whom all the others ask towards `self`. Peers by ascending id.
 */
export function handoverOrder(self: number, peers: readonly number[]): number[][] {
  const [first, ...others] = [...peers.filter((id) => id > self), ...peers.filter((id) => id < self)];
  const parts = [
    others.filter((_, index) => index % 2 === 0),
    others.filter((_, index) => index % 2 === 1),
    first === undefined ? [] : [first],
  ];
  return parts.filter((part) => part.length > 0);
}
