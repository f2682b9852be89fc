/**
 * The settings that may stand in an inventory, where each may stand, and what a mistyped one was meant to be. Pure.
 */
import { levenshteinDistance } from "@std/text";
import type { Kind } from "./kinds.ts";
import { describe, describeKind, type KeyPath, type Report } from "./problems.ts";

/** Where a setting stands: below a host, in `all.vars` or in the `vars` of a group. */
export type Place = "host" | "all.vars" | "group";

/** A value and where it was written. */
export interface Setting {
  readonly value: unknown;
  readonly path: KeyPath;
}

/** Settings by name. */
export type Settings = ReadonlyMap<string, Setting>;

const ANYWHERE: readonly Place[] = ["host", "all.vars", "group"];
/** Our own settings. */
const OURS: ReadonlyMap<string, readonly Place[]> = new Map([
  ["host_id", ["host"]],
  ["hostname", ["host"]],
  ["wireguard", ["host"]],
  ["forward", ANYWHERE],
  ["preserve_services", ANYWHERE],
  ["mobula_access", ANYWHERE],
  ["mobula_egress", ANYWHERE],
  ["mobula_egress_probes", ANYWHERE],
  ["mobula_keys", ["all.vars"]],
  ["mobula_mtu", ["all.vars"]],
  ["mobula_switching", ["all.vars"]],
  ["mobula_bfd_interval", ["all.vars"]],
  ["mobula_bfd_multiplier", ["all.vars"]],
  ["mobula_flood_limit", ["all.vars"]],
]);
/** Ansible's settings that mean the same to us; its others are left alone. */
const ANSIBLES: ReadonlySet<string> = new Set([
  "ansible_host",
  "ansible_port",
  "ansible_user",
  "ansible_ssh_private_key_file",
  "ansible_become",
]);
/** Letters that may differ in a mistyped name. */
const NEAR = 2;

/** Picks the known settings out of a map; unknown ones of ours are reported, others are the user's own affair. */
export function readSettings(
  map: Record<string, unknown>,
  path: KeyPath,
  place: Place,
  report: Report,
): Settings {
  const settings = new Map<string, Setting>();
  for (const [name, value] of Object.entries(map)) {
    const here = [...path, name];
    if (ANSIBLES.has(name)) settings.set(name, { value, path: here });
    const places = OURS.get(name);
    if (places?.includes(place)) settings.set(name, { value, path: here });
    else if (places) {
      report(here, `found in ${describePlace(place)}; expected ${alternatives(places.map(describePlace))}`);
    } else reportUnknown(name, here, report);
  }
  return settings;
}

/** The checked value of a setting: undefined when it is missing, or wrong and reported. */
export function readSetting<T>(
  settings: Settings,
  name: string,
  kind: Kind<T>,
  report: Report,
): T | undefined {
  const setting = settings.get(name);
  return setting && readValue(setting.value, setting.path, kind, report);
}

/** The checked value, or undefined when it is wrong and was reported. */
export function readValue<T>(value: unknown, path: KeyPath, kind: Kind<T>, report: Report): T | undefined {
  const parsed = kind.parse(value);
  if (parsed === undefined) {
    report(path, `found ${kind.secret ? describeKind(value) : describe(value)}; expected ${kind.wanted}`);
  }
  return parsed;
}

/** Reports each key of `map` that is not in `known`. */
export function checkKeys(
  map: Record<string, unknown>,
  path: KeyPath,
  known: readonly string[],
  report: Report,
): void {
  for (const name of Object.keys(map)) {
    if (!known.includes(name)) {
      report([...path, name], `unknown key; ${hint(nearest(name, known), known)}`);
    }
  }
}

function reportUnknown(name: string, path: KeyPath, report: Report): void {
  const known = [...OURS.keys()];
  const meant = nearest(name, known);
  if (meant === undefined && !name.startsWith("mobula_")) return;
  report(path, `unknown setting; ${hint(meant, known.filter((key) => key.startsWith("mobula_")))}`);
}

function hint(meant: string | undefined, known: readonly string[]): string {
  return meant ? `did you mean ${meant}?` : `expected ${alternatives(known)}`;
}

/** The known name that differs in the fewest letters, if they are few. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const distances = known
    .filter((key) => Math.abs(key.length - name.length) <= NEAR)
    .map((key) => ({ key, distance: levenshteinDistance(name.toLowerCase(), key) }))
    .filter(({ distance }) => distance <= NEAR);
  return distances.sort((a, b) => a.distance - b.distance)[0]?.key;
}

function alternatives(words: readonly string[]): string {
  return [words.slice(0, -1).join(", "), ...words.slice(-1)].filter((part) => part !== "").join(" or ");
}

function describePlace(place: Place): string {
  return { "host": "a host's own settings", "all.vars": "all.vars", "group": "a group's vars" }[place];
}
