/**
 * Picks hosts by what people call them. Pure.
 */
import { closestString } from "@std/text";
import { UsageError } from "../errors.ts";
import type { Host } from "../fleet.ts";

/** The hosts named by host name, id or external address, in the fleet's order; all of them for an empty list. */
export function limitHosts(hosts: readonly Host[], wanted: readonly string[]): readonly Host[] {
  if (wanted.length === 0) return hosts;
  const unknown = wanted.filter((word) => !hosts.some((host) => isCalled(host, word)));
  if (unknown.length > 0) throw new UsageError(unknownHosts(hosts, unknown));
  return hosts.filter((host) => wanted.some((word) => isCalled(host, word)));
}

function isCalled({ hostname, id, address }: Host, word: string): boolean {
  return hostname.toLowerCase() === word.toLowerCase() || String(id) === word || address === word;
}

function unknownHosts(hosts: readonly Host[], unknown: readonly string[]): string {
  const closest = hosts.length > 0 ? closestString(unknown[0]!, hosts.map(({ hostname }) => hostname)) : "";
  const hint = closest ? `. Did you mean ${closest}?` : "";
  return `Cannot limit to ${
    unknown.join(", ")
  }: not in hosts.yml; expected host names, ids or external addresses${hint}`;
}
