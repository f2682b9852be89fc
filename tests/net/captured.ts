/** What real hosts with a finished installation say when they are looked at. Reads `captured/`. */
import type { Network } from "../../lib/net/network.ts";
import { parseSeen, type Seen } from "../../lib/net/seen.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";

const CAPTURED = new URL("captured/", import.meta.url).pathname;

/** A host: what its network was made of, the output of the look script there, and what that says. */
export interface Captured {
  readonly wanted: Network;
  readonly text: string;
  /** Files that the host keeps of what it has loaded, by path. */
  readonly files: ReadonlyMap<string, string>;
  readonly seen: Seen;
}

/** The captured hosts, and their ids. */
export const CAPTURED_HOSTS = [["debian12", 3], ["debian13", 2]] as const;

export function readCaptured(name: string): Captured {
  const input = JSON.parse(Deno.readTextFileSync(`${CAPTURED}${name}.json`)) as HostInput;
  const text = Deno.readTextFileSync(`${CAPTURED}${name}.txt`);
  const loaded = JSON.parse(Deno.readTextFileSync(`${CAPTURED}${name}.loaded.json`));
  const files = new Map(Object.entries<string>(loaded));
  const wanted = wantedNetwork(input);
  return { wanted, text, files, seen: parseSeen(text, wanted.units, files) };
}
