/**
 * Checks the keys of `known_keys.ts`. A module of its own: what only compares keys does not load the schemas. Pure.
 */
import * as z from "zod";
import { HostError } from "./errors.ts";
import { isKey } from "./keys.ts";
import type { KnownKeys } from "./known_keys.ts";
import "./zod_english.ts";

const publicKey = z.string().refine(isKey, "expected a WireGuard key");
const KNOWN_KEYS = z.object({
  schema: z.literal(1),
  hold: publicKey.optional(),
  hosts: z.record(z.string().regex(/^\d{1,5}$/), z.array(publicKey)),
});

/** Checks announced keys by host id as they arrive on a host: one key belongs to one host. */
export function parseAnnouncement(hosts: unknown): KnownKeys["hosts"] {
  const { hosts: checked } = parseKnownKeys({ schema: 1, hosts });
  const owners = new Map<string, string>();
  for (const [id, keys] of Object.entries(checked)) {
    for (const key of keys) {
      const owner = owners.get(key) ?? id;
      owners.set(key, owner);
      if (owner === id) continue;
      throw new HostError(
        `Cannot take the announced keys: hosts ${owner} and ${id} have the same key ${key}; expected one key for one host`,
      );
    }
  }
  return checked;
}

/** Checks known keys as they lie on a host. */
export function parseKnownKeys(json: unknown): KnownKeys {
  const result = KNOWN_KEYS.safeParse(json);
  if (result.success) return result.data;
  throw new HostError(
    `Cannot read the announced keys: ${
      z.prettifyError(result.error)
    }; expected them as a push writes them. Push again`,
  );
}
