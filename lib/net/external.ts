/**
 * Finds the external interface among the live links, whatever it is called by now. Pure.
 */
import { HostError } from "../errors.ts";
import { externalVeth, LINK, type Scope } from "./network.ts";
import type { Seen, SeenLink } from "./seen.ts";

/** The external interface as it was before mobula: `Baseline` has this shape. */
export interface Card {
  readonly interface: string;
  /** Permanent address. */
  readonly mac: string;
}

/** Kinds of links that stand upon others, and often have their address; none can be moved into another namespace. */
export const IMMOBILE: readonly string[] = ["bridge", "bond", "vlan", "team", "openvswitch"];

/** Whether a link of this name, in whatever scope, is one that mobula makes. */
export function isOurLink({ interface: name }: Pick<Card, "interface">, link: string): boolean {
  return link === externalVeth(name) || Object.values<string>(LINK).includes(link);
}

/**
 * By its permanent address: first in the gateway, then in the root namespace, hardware before what software made. By its name only
 * where `byName` allows it for a link with another address. Throws HostError if it is nowhere.
 */
export function findExternal(seen: Seen, card: Card, byName: (link: SeenLink) => boolean): SeenLink {
  const cards = seen.links.filter((link) =>
    !isOurLink(card, link.name) && !IMMOBILE.includes(link.kind ?? "")
  );
  const named = cards.filter(({ name }) => name === card.interface);
  const found = best(cards.filter((link) => addressOf(link) === card.mac), card) ??
    best(named.filter(byName), card);
  if (found) return found;
  throw new HostError(
    `Cannot find the external interface: ${named[0] ? replaced(named[0], card) : gone(card)}`,
  );
}

/** Whether software made it: then no address is burnt in, and it may have another one after each boot. */
export function isVirtual({ kind }: SeenLink): boolean {
  return kind !== undefined;
}

function addressOf({ permanentMac, mac }: SeenLink): string {
  return permanentMac ?? mac;
}

function best(links: readonly SeenLink[], card: Card): SeenLink | undefined {
  const inRoot = (scope: Scope) => Number(scope === "root");
  return [...links].sort((a, b) =>
    inRoot(a.scope) - inRoot(b.scope) || Number(isVirtual(a)) - Number(isVirtual(b)) ||
    Number(b.name === card.interface) - Number(a.name === card.interface)
  )[0];
}

function gone({ interface: name, mac }: Card): string {
  return `no link has the address ${mac} (it was called ${name}); expected the network card that carried the host's ` +
    "address before mobula; see `ip link` and /opt/mobula/baseline.json";
}

function replaced(found: SeenLink, { interface: name, mac }: Card): string {
  return `${name} has the address ${
    addressOf(found)
  }, and no link has ${mac}; expected the network card that carried ` +
    `the host's address before mobula. If ${name} is a new card in its place, write its address as "mac" into ` +
    "/opt/mobula/baseline.json and run `/opt/mobula/bin/mobula up` on the host's console";
}
