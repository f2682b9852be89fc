/**
 * `extra_hosts.yml` and `extra_wires.yml`, checked entry by entry. Pure.
 */
import { inNetwork, NETWORKS } from "../address.ts";
import type { ExtraHost, ExtraWire } from "../fleet.ts";
import * as kinds from "./kinds.ts";
import { describe, isMap, type KeyPath, type Report } from "./problems.ts";
import { checkKeys, readValue } from "./settings.ts";

/** An entry as far as it could be understood: what is missing was reported. */
export type ExtraHostDraft = Partial<ExtraHost> & { readonly path: KeyPath };
/** An entry as far as it could be understood: what is missing was reported. */
export type ExtraWireDraft = Partial<ExtraWire> & { readonly path: KeyPath };

const accessAddress: kinds.Kind<string> = {
  wanted: `an address inside ${NETWORKS.access}, neither its first nor its last`,
  parse: (value) => typeof value === "string" && kinds.isAccessAddress(value) ? value : undefined,
};

const wireAddress: kinds.Kind<string> = {
  wanted: `an address inside ${NETWORKS.extrawire} with /32 behind it`,
  parse: (value) => {
    const [, address = ""] = /^(.*)\/32$/.exec(String(value)) ?? [];
    return inNetwork(address, NETWORKS.extrawire) ? address : undefined;
  },
};

/** Reads `extra_hosts: {<access address>: <name>}`. */
export function readExtraHosts(root: unknown, report: Report): ExtraHostDraft[] {
  return entries(root, "extra_hosts", "names by access address", report).map(([key, value, path]) => ({
    path,
    address: readValue(key, path, accessAddress, report),
    hostname: readValue(value, path, kinds.hostname, report),
  }));
}

/** Reads `extra_wires: {<extrawire address>/32: <public key>}`. */
export function readExtraWires(root: unknown, report: Report): ExtraWireDraft[] {
  return entries(root, "extra_wires", "public keys by extrawire address", report).map((
    [key, value, path],
  ) => ({
    path,
    address: readValue(key, path, wireAddress, report),
    publicKey: readValue(value, path, kinds.publicKey, report),
  }));
}

/** The entries of the one map in a file; an empty file or map has none. */
function entries(root: unknown, name: string, wanted: string, report: Report): [string, unknown, KeyPath][] {
  if (root === null || root === undefined) return [];
  if (!isMap(root)) {
    report([], `found ${describe(root)}; expected a map with the key ${name}`);
    return [];
  }
  checkKeys(root, [], [name], report);
  const map = Object.hasOwn(root, name) ? root[name] : null;
  if (isMap(map)) return Object.entries(map).map(([key, value]) => [key, value, [name, key]]);
  if (map !== null) report([name], `found ${describe(map)}; expected a map of ${wanted}`);
  return [];
}
