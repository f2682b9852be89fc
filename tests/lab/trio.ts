/**
 * The three hosts that most tests use, and the fleet as it was before the first push. Reads the lab.
 */
import { assertEquals } from "@std/assert";
import { executable } from "./executables.ts";
import { settledPicture } from "./host_picture.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { allInnerAddresses, unreached } from "./probes.ts";
import { ask } from "./snapshot.ts";

/** Three hosts of two systems. */
export const TRIO: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
  { name: "gamma", address: "198.51.100.4", suite: "trixie" },
];

/** A program to push with, and each host's network when nothing of mobula is there. */
export interface Before {
  readonly program: string;
  readonly network: ReadonlyMap<string, readonly string[]>;
}

/** Writes the inventory and takes the pictures; pushes nothing. */
export async function rememberBefore(lab: Lab): Promise<Before> {
  const program = await executable("compiled");
  await writeInventory(lab);
  const network = new Map<string, readonly string[]>();
  for (const { name } of lab.state.hosts) network.set(name, await settledPicture(lab, name, "network"));
  return { program, network };
}

/** Every host reaches all inner addresses of all. */
export async function expectOneNetwork(lab: Lab): Promise<void> {
  for (const { name } of lab.state.hosts) {
    assertEquals(await unreached(lab.network(name), allInnerAddresses(lab.state.hosts)), [], name);
  }
}

/** The number of the generation that is current on a host. */
export async function generation(lab: Lab, host: string): Promise<number> {
  return Number((await ask(lab, host, ["readlink", "/opt/mobula/current"])).trim().split("/").at(-1));
}
