/**
 * The public key that belongs to a private one, at once: `parseFleet` waits for nothing. The deployer's alone, a host uses `publicKeyOf`.
 * Pure.
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { privateKeyDer } from "../keys.ts";
import type { Secret } from "../secret.ts";

/** The public key (base64); a RangeError for text that is no key. */
export function derivePublicKey(privateKey: Secret): string {
  const key = Buffer.from(privateKeyDer(privateKey));
  const { x } = createPublicKey(createPrivateKey({ key, format: "der", type: "pkcs8" })).export({
    format: "jwk",
  });
  return Buffer.from(x!, "base64url").toString("base64");
}
