/**
 * Writes the three configuration files for a lab's hosts. Writes files in the given directory only.
 */
import { stringify } from "@std/yaml";
import type { Lab } from "./lab.ts";

/**
 * Where labs run beside each other, a switch that stands still for a moment is not to be taken for dead, and what idle hosts say to each
 * other takes processor time from the others.
 */
const PATIENCE = Deno.env.get("MOBULA_LAB_BUSY") === "1"
  ? { mobula_bfd_interval: 500, mobula_bfd_multiplier: 4 }
  : {};

/** What the inventory says beyond the hosts. */
export interface InventoryOptions {
  /** Default: the lab's directory. */
  readonly directory?: string;
  /** Names of the hosts that are in it; default: all. */
  readonly hosts?: readonly string[];
  /** Further `all.vars`. */
  readonly vars?: Readonly<Record<string, unknown>>;
  /** Further keys of single hosts, by host name. */
  readonly hostVars?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Address → name. */
  readonly extraHosts?: Readonly<Record<string, string>>;
  /** Address without `/32` → public key. */
  readonly extraWires?: Readonly<Record<string, string>>;
}

/** Writes `hosts.yml`, `extra_hosts.yml` and `extra_wires.yml`; returns the path of the first. */
export async function writeInventory(lab: Lab, options: InventoryOptions = {}): Promise<string> {
  const { directory = lab.directory, extraHosts = {}, extraWires = {} } = options;
  await Deno.mkdir(directory, { recursive: true });
  const wires = Object.fromEntries(
    Object.entries(extraWires).map(([address, key]) => [`${address}/32`, key]),
  );
  await Deno.writeTextFile(`${directory}/hosts.yml`, stringify(inventory(lab, options)));
  // It may have private keys in it.
  await Deno.chmod(`${directory}/hosts.yml`, 0o600);
  await Deno.writeTextFile(`${directory}/extra_hosts.yml`, stringify({ extra_hosts: extraHosts }));
  await Deno.writeTextFile(`${directory}/extra_wires.yml`, stringify({ extra_wires: wires }));
  return `${directory}/hosts.yml`;
}

function inventory(lab: Lab, { hosts, vars, hostVars }: InventoryOptions): Record<string, unknown> {
  const chosen = lab.state.hosts.filter(({ name }) => hosts === undefined || hosts.includes(name));
  const entries = chosen.map((
    { address, id, name },
  ) => [address, { host_id: id, hostname: name, ...hostVars?.[name] }]);
  return {
    all: {
      hosts: Object.fromEntries(entries),
      vars: { ansible_user: "root", mobula_access: "auto", mobula_keys: "keep", ...PATIENCE, ...vars },
    },
  };
}
