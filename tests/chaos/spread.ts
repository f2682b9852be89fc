/**
 * The injections of the test runs: twelve, of which each run makes six. Pure.
 */
import type { Injection } from "./points.ts";
import kept from "./spread.json" with { type: "json" };

/** All of them; a half has every scenario and every fault. */
export const COUNT = 12;
export const HALF = COUNT / 2;
export const SEED = 7;

/** Chosen from a recording of every step, so that a run takes the time of the injections alone. */
export const SPREAD = kept as readonly Injection[];

/** What to do where the product has other steps than when the injections were chosen. */
export const RECORD_ANEW =
  `record anew: deno task chaos --list --count ${COUNT} --seed ${SEED} --save tests/chaos/spread.json`;

/** The injections of a run. */
export function halfOf(parity: 0 | 1): readonly Injection[] {
  return SPREAD.slice(parity * HALF, (parity + 1) * HALF);
}
