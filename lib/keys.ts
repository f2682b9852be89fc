/**
 * WireGuard keys: X25519 key pairs as base64. Needs random numbers, touches nothing else. Uses the platform's own cryptography: loading
 * `node:crypto` takes longer than most verbs of a host do.
 */
import { decodeBase64, encodeBase64 } from "@std/encoding/base64";
import { decodeBase64Url } from "@std/encoding/base64url";
import { Secret } from "./secret.ts";

/** A WireGuard key pair, base64. */
export interface KeyPair {
  readonly publicKey: string;
  readonly privateKey: Secret;
}

/** DER of a PKCS #8 private key up to the 32 bytes of an X25519 key (RFC 8410, section 7). */
const PKCS8_HEAD = [
  0x30,
  0x2e,
  0x02,
  0x01,
  0x00,
  0x30,
  0x05,
  0x06,
  0x03,
  0x2b,
  0x65,
  0x6e,
  0x04,
  0x22,
  0x04,
  0x20,
];
const KEY_BYTES = 32;
const ZERO_KEY = "A".repeat(43) + "=";

/** Whether `text` is a key: 32 bytes, not all zero, in the one base64 spelling they have. */
export function isKey(text: string): boolean {
  return /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text) && text !== ZERO_KEY;
}

/** Makes a new key pair. */
export async function generateKeyPair(): Promise<KeyPair> {
  const privateKey = new Secret(encodeBase64(clamp(crypto.getRandomValues(new Uint8Array(KEY_BYTES)))));
  return { publicKey: await publicKeyOf(privateKey), privateKey };
}

/** The public key (base64) that belongs to a private one; a RangeError for text that is no key. */
export async function publicKeyOf(privateKey: Secret): Promise<string> {
  const der = privateKeyDer(privateKey);
  const key = await crypto.subtle.importKey("pkcs8", der, "X25519", true, ["deriveBits"]);
  const { x } = await crypto.subtle.exportKey("jwk", key);
  return encodeBase64(decodeBase64Url(x!));
}

/** PKCS #8, DER, of a private key (base64); a RangeError for text that is no key. */
export function privateKeyDer(privateKey: Secret): Uint8Array<ArrayBuffer> {
  const text = privateKey.reveal();
  if (!isKey(text)) {
    throw new RangeError("Cannot derive public key: not a private key; expected 32 bytes in base64");
  }
  return Uint8Array.from([...PKCS8_HEAD, ...decodeBase64(text)]);
}

/** Sets the bits that X25519 fixes (RFC 7748, section 5), as `wg genkey` does, so that `wg show` prints the same key. */
function clamp(key: Uint8Array): Uint8Array {
  key[0] = (key[0] ?? 0) & 0xf8;
  key[31] = ((key[31] ?? 0) & 0x7f) | 0x40;
  return key;
}
