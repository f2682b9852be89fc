/**
 * Fleets for tests. Pure.
 */
import { DEFAULT_SWITCHING } from "../../lib/config/switching.ts";
import type { Fleet, Host } from "../../lib/fleet.ts";

/** Host `web<id>` at 198.51.100.<id>, with an access address. */
export function hostOf(id: number, changes: Partial<Host> = {}): Host {
  const address = `198.51.100.${id}`;
  return {
    address,
    id,
    hostname: `web${id}`,
    access: "auto",
    ssh: { host: address, become: false },
    ...changes,
  };
}

/** A fleet of these hosts and nothing else. */
export function fleetOf(hosts: readonly Host[], changes: Partial<Fleet> = {}): Fleet {
  return { hosts, extraHosts: [], extraWires: [], keepKeys: false, switching: DEFAULT_SWITCHING, ...changes };
}
