/**
 * The settings of the access network's switching, and what they are unless told. Pure.
 */
import type { Switching } from "../fleet.ts";
import { bfdInterval, bfdMultiplier, floodLimit, switchingMode } from "./kinds.ts";
import type { Report } from "./problems.ts";
import { readSetting, type Settings } from "./settings.ts";

/** What holds where nothing is said: a dead path is noticed after 0.3 s. */
export const DEFAULT_SWITCHING: Switching = {
  mode: "direct",
  bfdInterval: 100,
  bfdMultiplier: 3,
  floodLimit: 2000,
};

/** A host watches two ports for each peer: above so many hosts it looks less often, so that the sum stays what it is with these. */
const HOSTS_AT_FULL_RATE = 32;

/** Milliseconds between two BFD packets of a path, unless told, in a fleet of so many hosts. */
function defaultBfdInterval(hosts: number): number {
  return DEFAULT_SWITCHING.bfdInterval * Math.max(1, Math.ceil(hosts / HOSTS_AT_FULL_RATE));
}

/** Reads `mobula_switching`, `mobula_bfd_interval`, `mobula_bfd_multiplier` and `mobula_flood_limit` of `all.vars`, for a fleet of so many hosts. */
export function readSwitching(vars: Settings, hosts: number, report: Report): Switching {
  const { mode, ...other } = DEFAULT_SWITCHING;
  return {
    mode: readSetting(vars, "mobula_switching", switchingMode, report) ?? mode,
    bfdInterval: readSetting(vars, "mobula_bfd_interval", bfdInterval, report) ?? defaultBfdInterval(hosts),
    bfdMultiplier: readSetting(vars, "mobula_bfd_multiplier", bfdMultiplier, report) ?? other.bfdMultiplier,
    floodLimit: readSetting(vars, "mobula_flood_limit", floodLimit, report) ?? other.floodLimit,
  };
}
