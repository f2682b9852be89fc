/**
 * The updates whose cost is measured. Runs `mobula keys generate`.
 */
import type { InventoryOptions } from "./inventory.ts";
import { must } from "./process.ts";

/** One update. */
export interface Update {
  readonly what: string;
  /** The inventory before the push; missing: it stays as it is. */
  readonly change?: InventoryOptions;
  /** Names of the hosts that the update does not concern; default: all. */
  readonly probed?: readonly string[];
}

/** In this order, each from where the one before has led. */
export const UPDATES: readonly Update[] = [
  { what: "nothing to do" },
  { what: "another name", change: { extraHosts: { "10.31.200.1": "printer.example" } } },
  { what: "another client", change: { extraWires: { "10.30.128.1": "CLIENT" } } },
  { what: "a forwarded port", change: { hostVars: { alpha: { forward: [8443] } } } },
  { what: "one host less", change: { hosts: ["alpha", "beta"] }, probed: ["alpha", "beta"] },
  { what: "one host more", change: {}, probed: ["alpha", "beta"] },
  { what: "the tree's root less", change: { hosts: ["beta", "gamma"] }, probed: ["beta", "gamma"] },
  { what: "the tree's root more", change: {}, probed: ["beta", "gamma"] },
];

/** The change with a real key in place of a client's name. */
export async function withClientKey(change: InventoryOptions, program: string): Promise<InventoryOptions> {
  if (!change.extraWires) return change;
  const pair = JSON.parse(await must([program, "keys", "generate", "--json"]));
  return { ...change, extraWires: { "10.30.128.1": pair.public_key } };
}
