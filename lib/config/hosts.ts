/**
 * The hosts of `hosts.yml`, checked one by one. Pure.
 */
import type { Egress, Host, PinnedKeys, SshTarget } from "../fleet.ts";
import { derivePublicKey } from "./derive_key.ts";
import type { InventoryHost } from "./inventory.ts";
import { readForward } from "./forward.ts";
import * as kinds from "./kinds.ts";
import { describe, describeKind, isMap, type KeyPath, type Report } from "./problems.ts";
import { checkKeys, readSetting, readValue, type Setting, type Settings } from "./settings.ts";

/** A host as far as it could be understood: what is missing was reported. */
export type HostDraft = Partial<Host> & { readonly path: KeyPath };

/** Checks one host of the inventory. */
export function readHost({ name, path, settings }: InventoryHost, report: Report): HostDraft {
  const address = readValue(name, path, kinds.externalAddress, report);
  return {
    path,
    address,
    id: required(settings, "host_id", path, kinds.hostId, report),
    hostname: required(settings, "hostname", path, kinds.hostname, report),
    access: readSetting(settings, "mobula_access", kinds.accessMode, report) ?? "none",
    ssh: readSsh(settings, name, report),
    ...optional({
      forward: readForward(settings, report),
      preserveServices: readSetting(settings, "preserve_services", kinds.yesNo, report) || undefined,
      egress: readEgress(settings, report),
    }),
    ...optional({ pinnedKeys: readPinnedKeys(settings.get("wireguard"), report) }),
  };
}

/** Asked where nobody is named: two anycast addresses that are meant to be asked. */
const PROBES: readonly string[] = ["9.9.9.9", "1.1.1.1"];

function readEgress(settings: Settings, report: Report): Egress | undefined {
  const probes = readSetting(settings, "mobula_egress_probes", kinds.egressProbes, report) ?? PROBES;
  const mode = readSetting(settings, "mobula_egress", kinds.egressMode, report);
  return mode === "failover" ? { probes } : undefined;
}

function required<T>(
  settings: Settings,
  name: string,
  path: KeyPath,
  kind: kinds.Kind<T>,
  report: Report,
): T | undefined {
  if (!settings.has(name)) report([...path, name], `missing; expected ${kind.wanted}`);
  return readSetting(settings, name, kind, report);
}

function readSsh(settings: Settings, address: string, report: Report): SshTarget {
  return {
    host: readSetting(settings, "ansible_host", kinds.sshHost, report) ?? address,
    become: readSetting(settings, "ansible_become", kinds.yesNo, report) ?? false,
    ...optional({
      port: readSetting(settings, "ansible_port", kinds.port, report),
      user: readSetting(settings, "ansible_user", kinds.sshUser, report),
      identityFile: readSetting(settings, "ansible_ssh_private_key_file", kinds.identityFile, report),
    }),
  };
}

/** Checks `wireguard: {public_key, private_key}`; no message shows the private key. */
function readPinnedKeys(setting: Setting | undefined, report: Report): PinnedKeys | undefined {
  if (setting === undefined) return undefined;
  const { value, path } = setting;
  if (!isMap(value)) {
    report(path, `found ${describeKind(value)}; expected a map of public_key and private_key`);
    return undefined;
  }
  checkKeys(value, path, ["public_key", "private_key"], report);
  const keys = new Map(
    Object.entries(value).map(([key, inner]) => [key, { value: inner, path: [...path, key] }]),
  );
  const publicKey = required(keys, "public_key", path, { ...kinds.publicKey, secret: true }, report);
  const privateKey = required(keys, "private_key", path, kinds.privateKey, report);
  if (publicKey === undefined || privateKey === undefined) return undefined;
  const derived = derivePublicKey(privateKey);
  if (derived !== publicKey) {
    // What was found is not shown: whoever mixed up the two lines would have the private key on the screen.
    const found = "found a key that does not belong to the private_key beside it";
    report([...path, "public_key"], `${found}; expected ${describe(derived)}`);
    return undefined;
  }
  return { publicKey, privateKey };
}

/** Without the fields that are undefined. */
function optional<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
