/**
 * The configuration of a push: read at its beginning, `wireguard_pubkeys.yml` written in its course. Effects: reads and writes files
 * beside `hosts.yml`.
 */
import { dirname, join } from "@std/path";
import { loadFleet, PUBKEYS_FILE } from "../commands/load_fleet.ts";
import { type HostPublicKey, renderPubkeys } from "../config/pubkeys.ts";
import type { Fleet } from "../fleet.ts";
import { HostCalls } from "./host_calls.ts";
import { limitHosts } from "./limit.ts";
import { alive, keysOf, type PushRun } from "./run.ts";
import { SshRunner } from "./ssh.ts";

/** Fills in the fleet and one runner per host of this push. */
export async function loadRun(push: PushRun): Promise<void> {
  const { hostsPath, limit, sshConfig, acceptNewHostKeys } = push.options;
  const { fleet, pubkeys } = await loadFleet(hostsPath);
  push.fleet = fleet;
  push.pubkeys = pubkeys;
  const ssh = { controlDirectory: push.directory, configFile: sshConfig, acceptNewHostKeys };
  push.hosts = limitHosts(fleet.hosts, limit).map((host) => {
    const runner = new SshRunner(host.hostname, host.ssh, ssh);
    return { host, ssh: runner, calls: new HostCalls(runner), seconds: new Map(), notes: [] };
  });
}

/**
 * Takes over the keys that the hosts of this push are to use, keeps those of the others, and writes the file if it changes. As long
 * as new keys may still be taken back, it names the ones in use.
 */
export async function writeRunPubkeys(push: PushRun, which: "live" | "next"): Promise<void> {
  const known = push.loadedPubkeys ??= push.pubkeys;
  const now = new Date();
  const next = new Map(alive(push).map((run) => [run.host.address, keysOf(run)!.next]));
  const live = new Map(push.hosts.flatMap((run): [string, string][] => {
    const key = keysOf(run)?.live;
    return key === undefined ? [] : [[run.host.address, key]];
  }));
  const inUse = which === "live" ? new Map([...next, ...live]) : new Map([...live, ...next]);
  push.pubkeys = mergePubkeys(push.fleet, known, next, now);
  await writePubkeysFile(push.options.hostsPath, mergePubkeys(push.fleet, known, inUse, now));
}

/** The new content of the file: only hosts of the fleet, a key's age starts when it is first seen. */
export function mergePubkeys(
  fleet: Fleet,
  known: ReadonlyMap<string, HostPublicKey>,
  fresh: ReadonlyMap<string, string>,
  now: Date,
): ReadonlyMap<string, HostPublicKey> {
  const since = now.toISOString().replace(/\.\d+Z$/, "Z");
  return new Map(fleet.hosts.flatMap(({ address, pinnedKeys }): [string, HostPublicKey][] => {
    const old = known.get(address);
    const publicKey = fresh.get(address) ?? pinnedKeys?.publicKey ?? old?.publicKey;
    if (publicKey === undefined) return [];
    return [[address, old?.publicKey === publicKey ? old : { publicKey, since }]];
  }));
}

/** Writes `wireguard_pubkeys.yml` beside `hosts.yml`, whole or not at all; leaves an equal file alone. */
export async function writePubkeysFile(
  hostsPath: string,
  pubkeys: ReadonlyMap<string, HostPublicKey>,
): Promise<void> {
  const path = join(dirname(hostsPath), PUBKEYS_FILE);
  const text = renderPubkeys(pubkeys);
  if (await readIfThere(path) === text) return;
  const temporary = `${path}.new-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await Deno.writeTextFile(temporary, text, { mode: 0o644, createNew: true });
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
