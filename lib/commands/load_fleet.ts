/**
 * Reads the configuration from disk: `hosts.yml` and what lies beside it. Reads files, changes nothing.
 */
import { dirname, join } from "@std/path";
import { parseFleet } from "../config/parse_fleet.ts";
import type { Source } from "../config/problems.ts";
import { type HostPublicKey, parsePubkeys } from "../config/pubkeys.ts";
import { ConfigError, type ConfigProblem } from "../errors.ts";
import type { Fleet } from "../fleet.ts";

/** The configuration, and the directory it came from. */
export interface LoadedFleet {
  readonly fleet: Fleet;
  readonly directory: string;
  /** By external address; empty before the first push. */
  readonly pubkeys: ReadonlyMap<string, HostPublicKey>;
}

/** Name of the file with the hosts' public keys. */
export const PUBKEYS_FILE = "wireguard_pubkeys.yml";

/** Bytes. */
const MAX_FILE = 10 * 1024 * 1024;
const MISSING =
  "no such file; expected the list of hosts, see examples/hosts.yml for one to copy, or name another: mobula push <path>";

/** Reads and checks `hosts.yml` and the files beside it, and who else may read or change them; errors as those of `readFleet`. */
export async function loadFleet(hostsPath: string): Promise<LoadedFleet> {
  const loaded = await readFleet(hostsPath);
  if (loaded.fleet.hosts.some(({ pinnedKeys }) => pinnedKeys !== undefined)) await refuseReaders(hostsPath);
  return loaded;
}

/** The same, whoever may read private keys in it; a ConfigError holds all problems of all files. */
export async function readFleet(hostsPath: string): Promise<LoadedFleet> {
  const directory = dirname(hostsPath);
  const problems: ConfigProblem[] = [];
  const read = (file: string) => collect(problems, () => readSource(file));
  const hostsYml = await read(hostsPath);
  if (hostsYml === undefined && problems.length === 0) {
    problems.push({ file: hostsPath, path: "", message: MISSING });
  }
  const extraHostsYml = await read(join(directory, "extra_hosts.yml"));
  const extraWiresYml = await read(join(directory, "extra_wires.yml"));
  const pubkeysYml = await read(join(directory, PUBKEYS_FILE));

  const fleet = hostsYml &&
    await collect(problems, () => parseFleet({ hostsYml, extraHostsYml, extraWiresYml }));
  const pubkeys = pubkeysYml && await collect(problems, () => parsePubkeys(pubkeysYml.file, pubkeysYml.text));
  if (!fleet || problems.length > 0) throw new ConfigError(problems);
  return { fleet, directory, pubkeys: pubkeys ?? new Map() };
}

/** The file, or undefined where there is none. */
async function readSource(file: string): Promise<Source | undefined> {
  try {
    const info = await Deno.stat(file);
    if (!info.isFile) {
      throw problem(file, `found a ${info.isDirectory ? "directory" : "device"}; expected a file`);
    }
    if (bitsOf(info) & WRITABLE_BY_OTHERS) {
      throw problem(
        file,
        `found a file that every user may change (mode ${
          octal(info)
        }); expected one that others cannot write: ` +
          `chmod o-w ${file}`,
      );
    }
    if (info.size > MAX_FILE) throw problem(file, `found ${info.size} bytes; expected at most ${MAX_FILE}`);
    return { file, text: await Deno.readTextFile(file) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.PermissionDenied) {
      throw problem(file, "found a file that this user may not read; expected one with read permission");
    }
    if (error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  }
}

/** Of a file's mode; Windows has none of them. */
const WRITABLE_BY_OTHERS = 0o002;
const NOT_OWNERS = 0o077;

/** As ssh does with a private key: nobody else may even read it. */
async function refuseReaders(file: string): Promise<void> {
  const info = await Deno.stat(file);
  if ((bitsOf(info) & NOT_OWNERS) === 0) return;
  throw problem(
    file,
    `found private keys in a file that others may read (mode ${
      octal(info)
    }); expected 0600: chmod 600 ${file}`,
  );
}

function bitsOf({ mode }: Pick<Deno.FileInfo, "mode">): number {
  return (mode ?? 0) & 0o777;
}

function octal(info: Pick<Deno.FileInfo, "mode">): string {
  return `0${bitsOf(info).toString(8)}`;
}

function problem(file: string, message: string): ConfigError {
  return new ConfigError([{ file, path: "", message }]);
}

/** Runs `action`; the problems of a ConfigError are added to the others and the result is then undefined. */
async function collect<T>(problems: ConfigProblem[], action: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.problems);
    return undefined;
  }
}
