/**
 * Picks hosts by what people call them. Pure.
 */
import { closestString } from "@std/text";
import { UsageError } from "../errors.ts";
import type { Host } from "../fleet.ts";

/**
 * The hosts named by host name, id or external address, in the fleet's order; names that begin with `!` exclude a host. Without other names
 * all hosts are included. Throws UsageError for an unknown name, and if no host remains.
 */
export function limitHosts(hosts: readonly Host[], wanted: readonly string[]): readonly Host[] {
  const [left, named] = [true, false].map((isLeft) =>
    wanted.filter((word) => word.startsWith("!") === isLeft).map((word) =>
      isLeft ? word.slice(1).trim() : word
    )
  ) as [string[], string[]];
  const unknown = [...named, ...left].filter((word) => !hosts.some((host) => isCalled(host, word)));
  if (unknown.length > 0) throw new UsageError(unknownHosts(hosts, unknown));
  const isOneOf = (host: Host, words: readonly string[]) => words.some((word) => isCalled(host, word));
  const limited = hosts.filter((host) =>
    (named.length === 0 || isOneOf(host, named)) && !isOneOf(host, left)
  );
  if (limited.length === 0 && hosts.length > 0) {
    throw new UsageError(`Cannot limit to ${wanted.join(",")}: no host is left; expected at least one`);
  }
  return limited;
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
