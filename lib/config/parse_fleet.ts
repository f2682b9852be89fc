/**
 * The three configuration files to one checked fleet, or to everything that is wrong in them. Pure.
 */
import { parseIpv4 } from "../address.ts";
import type { ExtraHost, ExtraWire, Fleet, Host } from "../fleet.ts";
import { crossCheck } from "./cross_check.ts";
import { readExtraHosts, readExtraWires } from "./extras.ts";
import { readHost } from "./hosts.ts";
import { type Inventory, readInventory } from "./inventory.ts";
import { keysMode, mtu } from "./kinds.ts";
import { type KeyPath, Problems, type Source } from "./problems.ts";
import { readSetting } from "./settings.ts";
import { readSwitching } from "./switching.ts";
import { parseYaml } from "./yaml.ts";

/** The configuration files; the extra ones may be missing. */
export interface FleetFiles {
  readonly hostsYml: Source;
  readonly extraHostsYml?: Source;
  readonly extraWiresYml?: Source;
}

/** Parses and checks the configuration; a ConfigError holds all problems of all files. */
export function parseFleet({ hostsYml, extraHostsYml, extraWiresYml }: FleetFiles): Fleet {
  const problems = new Problems();
  const report = problems.in(hostsYml.file);
  const inventory = parseInventory(hostsYml, problems);
  const hosts = inventory.hosts.map((host) => readHost(host, report));
  const extraHosts = parseExtra(extraHostsYml, readExtraHosts, problems);
  const extraWires = parseExtra(extraWiresYml, readExtraWires, problems);
  const underlayMtu = readSetting(inventory.vars, "mobula_mtu", mtu, report);
  const keepKeys = readSetting(inventory.vars, "mobula_keys", keysMode, report) === "keep";
  const switching = readSwitching(inventory.vars, hosts.length, report);

  crossCheck({ hosts, extraHosts, extraWires }, {
    hosts: hostsYml.file,
    extraHosts: extraHostsYml?.file ?? "",
    extraWires: extraWiresYml?.file ?? "",
  }, problems);
  problems.throwIfAny();

  return {
    hosts: hosts.map(withoutPath<Host>).sort((a, b) => a.id - b.id),
    extraHosts: extraHosts.map(withoutPath<ExtraHost>).sort(byAddress),
    extraWires: extraWires.map(withoutPath<ExtraWire>).sort(byAddress),
    keepKeys,
    switching,
    ...(underlayMtu === undefined ? {} : { underlayMtu }),
  };
}

function parseInventory({ file, text }: Source, problems: Problems): Inventory {
  const report = problems.in(file);
  const root = parseYaml(text, report);
  if (root === undefined) return { hosts: [], vars: new Map() };
  const inventory = readInventory(root, report);
  if (inventory.hosts.length === 0 && !problems.has(file)) {
    report(["all", "hosts"], "found no host; expected at least one, by its external IPv4 address");
  }
  return inventory;
}

function parseExtra<T>(
  source: Source | undefined,
  read: (root: unknown, report: ReturnType<Problems["in"]>) => T[],
  problems: Problems,
): T[] {
  if (source === undefined) return [];
  const report = problems.in(source.file);
  return read(parseYaml(source.text, report), report);
}

/** Only for drafts without a problem: those have every field. */
function withoutPath<T>({ path: _path, ...fields }: { readonly path: KeyPath }): T {
  return fields as T;
}

function byAddress(a: { readonly address: string }, b: { readonly address: string }): number {
  return (parseIpv4(a.address) ?? 0) - (parseIpv4(b.address) ?? 0);
}
