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

/** Checks known keys as they arrive on a host or lie there. */
export function parseKnownKeys(json: unknown): KnownKeys {
  const result = KNOWN_KEYS.safeParse(json);
  if (result.success) return result.data;
  throw new HostError(
    `Cannot read the announced keys: ${
      z.prettifyError(result.error)
    }; expected them as a push writes them. Push again`,
  );
}
