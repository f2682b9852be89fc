/**
 * What is broken, deduced from what fails: one cause for a whole pattern of failures, and every failure that none explains as it
 * is. Pure.
 */
import { Case, type Cause, type Rule } from "./causes/case.ts";
import { ownGateways, silentHosts, unreachableHosts, wrongKeys } from "./causes/hosts.ts";
import { accessNetwork, brokenPairs, narrowPairs, trees } from "./causes/pairs.ts";
import { clocks, connections, deafListeners, names, oversize, world } from "./causes/services.ts";
import { isPing, type Verification } from "./checks.ts";

export type { Cause };

/** All causes, the ones that explain others first. */
export function findCauses(verification: Verification): readonly Cause[] {
  const one = new Case(verification);
  for (const rule of RULES) rule(one);
  return one.causes;
}

/** Those that explain more come first. */
const RULES: readonly Rule[] = [
  unreachableHosts,
  wrongKeys,
  ownGateways,
  silentHosts,
  brokenPairs,
  narrowPairs,
  accessNetwork,
  deafListeners,
  connections,
  oversize,
  names,
  world,
  clocks,
  trees,
  rest,
];

function rest(one: Case): void {
  for (const { asker, kind, to, address, from, found, expected } of one.failures(() => true)) {
    const name = asker.hostname;
    const seen = found ? `: ${found}${expected ? `; expected ${expected}` : ""}` : "";
    one.blame(
      [name],
      isPing({ kind })
        ? `${name} gets no answer from ${to} (${kind} ${address}), asked from the ${from}`
        : `${name}: ${kind} ${to}${seen}`,
      (failure) =>
        failure.asker === asker && failure.kind === kind && failure.to === to && failure.address === address,
    );
  }
}
