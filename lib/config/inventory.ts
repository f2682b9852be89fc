/**
 * An Ansible inventory in YAML to its hosts, each with the settings that hold for it. Pure.
 *
 * Order of precedence, strongest first: the host, its group, the group's parents, `all`; of two groups of the same depth the
 * one whose name comes later (Ansible's documentation, "How variables are merged").
 */
import { describe, isMap, type KeyPath, renderPath, type Report } from "./problems.ts";
import { checkKeys, readSettings, type Setting, type Settings } from "./settings.ts";

/** One host of the inventory. */
export interface InventoryHost {
  /** Its key, unchecked. */
  readonly name: string;
  /** Where it was named first. */
  readonly path: KeyPath;
  readonly settings: Settings;
}

/** The inventory's hosts, and what `all.vars` says. */
export interface Inventory {
  readonly hosts: readonly InventoryHost[];
  readonly vars: Settings;
}

interface Group {
  readonly name: string;
  readonly path: KeyPath;
  readonly parents: Set<string>;
  readonly vars: Map<string, Setting>;
}

interface Entry {
  readonly path: KeyPath;
  readonly settings: Map<string, Setting>;
  readonly groups: Set<string>;
}

/** What is known while the inventory is being read. */
interface Reading {
  readonly report: Report;
  readonly groups: Map<string, Group>;
  readonly entries: Map<string, Entry>;
  /** Bodies seen, by group name: an alias may name the same one again and again. */
  readonly seen: Map<string, Set<unknown>>;
}

/** Groups inside of groups. */
const MAX_DEPTH = 100;
const ROOT = "all";

/** Reads a parsed inventory; everything wrong with its form is reported. */
export function readInventory(root: unknown, report: Report): Inventory {
  const reading: Reading = { report, groups: new Map(), entries: new Map(), seen: new Map() };
  if (!isMap(root)) {
    report([], `found ${root === null ? "no content" : describe(root)}; expected a map with the key all`);
  } else {
    checkTopLevel(root, report);
    if (Object.hasOwn(root, ROOT)) readGroup(ROOT, root[ROOT], [ROOT], reading);
  }
  return { hosts: mergeAll(reading), vars: reading.groups.get(ROOT)?.vars ?? new Map() };
}

function checkTopLevel(root: Record<string, unknown>, report: Report): void {
  checkKeys(root, [], [ROOT], report);
  if (!Object.hasOwn(root, ROOT)) {
    report([ROOT], "missing; expected a map with hosts, and if wanted vars and children");
  }
}

function readGroup(name: string, body: unknown, path: KeyPath, reading: Reading, parent?: string): void {
  const group = reading.groups.get(name) ?? { name, path, parents: new Set(), vars: new Map() };
  reading.groups.set(name, group);
  if (parent !== undefined) group.parents.add(parent);
  const seen = reading.seen.get(name) ?? new Set();
  if (seen.has(body)) return;
  reading.seen.set(name, seen.add(body));
  if (path.length > 2 * MAX_DEPTH) {
    return reading.report(path, `found groups nested deeper than ${MAX_DEPTH}`);
  }

  const parts = mapOrNothing(body, path, "hosts, vars or children", reading.report);
  checkKeys(parts, path, ["hosts", "vars", "children"], reading.report);
  const part = (key: string, wanted: string) =>
    mapOrNothing(parts[key], [...path, key], wanted, reading.report);
  const place = name === ROOT ? "all.vars" : "group";
  const vars = readSettings(part("vars", "settings"), [...path, "vars"], place, reading.report);
  for (const [key, setting] of vars) group.vars.set(key, setting);
  for (const [host, settings] of Object.entries(part("hosts", "hosts by external IPv4 address"))) {
    readHostEntry(host, settings, [...path, "hosts", host], reading, name);
  }
  for (const [child, inner] of Object.entries(part("children", "groups by name"))) {
    readGroup(child, inner, [...path, "children", child], reading, name);
  }
}

function readHostEntry(name: string, body: unknown, path: KeyPath, reading: Reading, group: string): void {
  const map = mapOrNothing(body, path, "host_id and hostname", reading.report);
  const entry = reading.entries.get(name) ?? { path, settings: new Map(), groups: new Set() };
  reading.entries.set(name, entry);
  entry.groups.add(group);
  for (const [key, setting] of readSettings(map, path, "host", reading.report)) {
    const earlier = entry.settings.get(key);
    if (earlier && isScalar(setting.value) && earlier.value !== setting.value) {
      const wanted = `${describe(earlier.value)}, as in ${renderPath(earlier.path)}`;
      reading.report(setting.path, `found ${describe(setting.value)}; expected ${wanted}`);
    }
    entry.settings.set(key, setting);
  }
}

function mapOrNothing(
  value: unknown,
  path: KeyPath,
  wanted: string,
  report: Report,
): Record<string, unknown> {
  if (isMap(value)) return value;
  if (value !== undefined && value !== null) {
    report(path, `found ${describe(value)}; expected a map of ${wanted}`);
  }
  return {};
}

function isScalar(value: unknown): boolean {
  return typeof value !== "object" || value === null;
}

/** Each host's own settings over those of its groups; hosts in the same groups share the work. */
function mergeAll(reading: Reading): InventoryHost[] {
  const depths = groupDepths(reading);
  const shared = new Map<string, Settings>();
  return [...reading.entries].map(([name, { path, settings, groups }]) => {
    const key = JSON.stringify([...groups].sort());
    const inherited = shared.get(key) ?? mergeGroups(groups, depths, reading);
    shared.set(key, inherited);
    return { name, path, settings: new Map([...inherited, ...settings]) };
  });
}

/** The settings of the groups and all their ancestors, the weakest first, so that the strongest stays. */
function mergeGroups(
  direct: ReadonlySet<string>,
  depths: ReadonlyMap<string, number>,
  reading: Reading,
): Settings {
  const names = new Set(direct);
  // A set may grow while it is gone through: parents of parents are visited, too.
  for (const name of names) reading.groups.get(name)?.parents.forEach((parent) => names.add(parent));
  const depth = (name: string) => depths.get(name) ?? 0;
  const ordered = [...names].sort((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1));
  return new Map(ordered.flatMap((name) => [...reading.groups.get(name)?.vars ?? []]));
}

/** Each group's longest way from `all`; a group inside of itself is reported. */
function groupDepths({ groups, report }: Reading): Map<string, number> {
  const depths = new Map<string, number>();
  const trail = new Set<string>();
  const measure = (name: string): number => {
    const known = depths.get(name);
    if (known !== undefined) return known;
    const group = groups.get(name);
    if (!group) return 0;
    if (trail.has(name) || trail.size > MAX_DEPTH) {
      const found = trail.has(name) ? "a group inside of itself" : `groups nested deeper than ${MAX_DEPTH}`;
      report(group.path, `found ${found}; expected groups that end in hosts`);
      return 0;
    }
    trail.add(name);
    const depth = 1 + Math.max(-1, ...[...group.parents].map(measure));
    trail.delete(name);
    depths.set(name, depth);
    return depth;
  };
  for (const name of groups.keys()) measure(name);
  return depths;
}
