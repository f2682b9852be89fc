/**
 * `mobula keys`: the hosts' public keys, and new pairs. Effects: reads the configuration, writes to standard output.
 */
import type { HostPublicKey } from "../config/pubkeys.ts";
import { EXIT } from "../errors.ts";
import type { Fleet } from "../fleet.ts";
import { generateKeyPair } from "../keys.ts";
import { writeLine } from "../ui/lines.ts";
import { loadFleet } from "./load_fleet.ts";

/** One host's key as listed. */
export interface KeyRow {
  readonly hostname: string;
  readonly id: number;
  readonly address: string;
  readonly publicKey?: string;
  /** ISO 8601, UTC. */
  readonly since?: string;
  /** From `hosts.yml`, never rotated. */
  readonly pinned: boolean;
}

/** Lists host, id, public key and age. */
export async function listKeys(hostsPath: string, { json }: { readonly json: boolean }): Promise<number> {
  const { fleet, pubkeys } = await loadFleet(hostsPath);
  const rows = keyRows(fleet, pubkeys);
  writeLine(json ? JSON.stringify(rows.map(rowJson), null, 2) : renderKeys(rows, new Date()));
  return EXIT.ok;
}

/** Prints a new key pair; the only place where a private key is shown, because that is what was asked for. */
export async function printKeyPair({ json }: { readonly json: boolean }): Promise<number> {
  const { publicKey, privateKey } = await generateKeyPair();
  const pair = { private_key: privateKey.reveal(), public_key: publicKey };
  writeLine(json ? JSON.stringify(pair) : `private_key: ${pair.private_key}\npublic_key: ${pair.public_key}`);
  return EXIT.ok;
}

/** The fleet's hosts with what is known of their keys. */
export function keyRows(fleet: Fleet, pubkeys: ReadonlyMap<string, HostPublicKey>): readonly KeyRow[] {
  return fleet.hosts.map(({ hostname, id, address, pinnedKeys }) => {
    const known = pubkeys.get(address);
    const publicKey = pinnedKeys?.publicKey ?? known?.publicKey;
    const since = known && known.publicKey === publicKey ? known.since : undefined;
    return {
      hostname,
      id,
      address,
      pinned: pinnedKeys !== undefined,
      ...(publicKey ? { publicKey } : {}),
      ...(since ? { since } : {}),
    };
  });
}

function rowJson({ hostname, id, address, publicKey, since, pinned }: KeyRow): unknown {
  return { hostname, id, address, public_key: publicKey ?? null, since: since ?? null, pinned };
}

/** A table for people. */
export function renderKeys(rows: readonly KeyRow[], now: Date): string {
  const table = [
    ["HOST", "ID", "PUBLIC KEY", "AGE"],
    ...rows.map((
      row,
    ) => [row.hostname, String(row.id), row.publicKey ?? "none: never installed", age(row, now)]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]!.length)));
  return table.map((row) => row.map((text, column) => text.padEnd(widths[column] ?? 0)).join("  ").trimEnd())
    .join("\n");
}

function age({ since, pinned }: KeyRow, now: Date): string {
  const pin = pinned ? ["pinned"] : [];
  const days = since ? [renderAge((now.getTime() - Date.parse(since)) / 1000)] : [];
  return [...pin, ...days].join(", ") || "-";
}

/** Seconds → the largest unit that fits. */
export function renderAge(seconds: number): string {
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]] as const) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return "less than a minute";
}
