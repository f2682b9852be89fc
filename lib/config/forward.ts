/**
 * The setting `forward`: ports of the external address that lead to the host. Pure.
 */
import { WIREGUARD_PORT } from "../address.ts";
import type { Forward } from "../fleet.ts";
import { portOf } from "../forward.ts";
import * as kinds from "./kinds.ts";
import { describe, type KeyPath, type Report } from "./problems.ts";
import { readSetting, readValue, type Settings } from "./settings.ts";

const SSH_PORT = 22;

const forward: kinds.Kind<Forward> = {
  wanted: "a port from 1 to 65535, or [external:]internal[/tcp or /udp] in quotes",
  parse: (value) => {
    const [, first, second, protocol = "tcp"] = /^(?:(\d{1,5}):)?(\d{1,5})(?:\/(tcp|udp))?$/.exec(
      typeof value === "number" || typeof value === "string" ? String(value) : "",
    ) ?? [];
    const internal = kinds.port.parse(second);
    const external = first === undefined ? internal : kinds.port.parse(first);
    if (internal === undefined || external === undefined) return undefined;
    return { external, internal, protocol: protocol === "udp" ? "udp" : "tcp" };
  },
};

const forwards: kinds.Kind<readonly unknown[]> = {
  wanted: 'a list of ports, such as [443, "8443:443/tcp", "53/udp"]',
  parse: (value) => Array.isArray(value) ? value : undefined,
};

/** Checks `forward: [443, "8443:443/tcp", "53/udp"]`; undefined where there is none. */
export function readForward(settings: Settings, report: Report): readonly Forward[] | undefined {
  const path = settings.get("forward")?.path ?? [];
  const entries = readSetting(settings, "forward", forwards, report) ?? [];
  const found = entries.flatMap((value, index) => {
    const entry = readValue(value, [...path, String(index)], forward, report);
    return entry ? [{ value, entry, path: [...path, String(index)] }] : [];
  });
  const sshPort = readSetting(settings, "ansible_port", kinds.port, () => {}) ?? SSH_PORT;
  const owners = new Map([
    [`${sshPort}/tcp`, "SSH has it, which is always forwarded"],
    [`${WIREGUARD_PORT}/udp`, "the gateway's WireGuard has it"],
  ]);
  for (const one of found) claim(one, owners, report);
  return found.length > 0 ? found.map(({ entry }) => entry) : undefined;
}

function claim(
  { value, entry, path }: { readonly value: unknown; readonly entry: Forward; readonly path: KeyPath },
  owners: Map<string, string>,
  report: Report,
): void {
  const port = portOf(entry);
  const owner = owners.get(port);
  if (owner) report(path, `found ${describe(value)}; expected another external port than ${port}, ${owner}`);
  else owners.set(port, `${path.slice(-2).join(".")} has it`);
}
