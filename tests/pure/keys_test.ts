/** WireGuard keys against published vectors, and against `wg` where it may be run. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { encodeBase64 } from "@std/encoding/base64";
import { derivePublicKey } from "../../lib/config/derive_key.ts";
import { generateKeyPair, isKey, publicKeyOf } from "../../lib/keys.ts";
import { Secret } from "../../lib/secret.ts";

const WG = "/usr/bin/wg";

/** RFC 7748, section 6.1: private and public keys of both parties. */
const VECTORS = [
  [
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
  ],
  [
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
  ],
] as const;

Deno.test("publicKeyOf, derivePublicKey: RFC 7748 vectors", async () => {
  for (const [privateKey, publicKey] of VECTORS) {
    const secret = new Secret(base64(privateKey));
    assertEquals(await publicKeyOf(secret), base64(publicKey));
    assertEquals(derivePublicKey(secret), base64(publicKey));
  }
});

Deno.test("publicKeyOf: refuses what is no key and does not show it", async () => {
  const error = await assertRejects(
    () => publicKeyOf(new Secret("hunter2")),
    RangeError,
    "expected 32 bytes in base64",
  );
  assert(!error.message.includes("hunter2"));
});

Deno.test("isKey: 32 bytes, not zero, one spelling", () => {
  assert(isKey(base64("ff".repeat(32))));
  for (const bytes of [0, 31, 33]) assert(!isKey(base64("ff".repeat(bytes))), `${bytes} bytes`);
  assert(!isKey(base64("00".repeat(32))), "zero");
  assert(!isKey(base64("ff".repeat(32)).replace("8=", "9=")), "bits beyond the end");
  assert(!isKey(base64("ff".repeat(32)) + "\n"), "newline");
  assert(!isKey(base64("ff".repeat(32)).replaceAll("/", "_")), "URL spelling");
});

Deno.test("generateKeyPair: a new, clamped pair each time", async () => {
  const pair = await generateKeyPair();
  const bytes = Uint8Array.from(atob(pair.privateKey.reveal()), (character) => character.charCodeAt(0));
  assert(isKey(pair.publicKey) && isKey(pair.privateKey.reveal()));
  assertEquals([(bytes[0] ?? 0) & 7, (bytes[31] ?? 0) >> 6], [0, 1]);
  assertEquals(await publicKeyOf(pair.privateKey), pair.publicKey);
  assertNotEquals((await generateKeyPair()).publicKey, pair.publicKey);
  assertEquals(JSON.stringify(pair), `{"publicKey":"${pair.publicKey}","privateKey":"[secret]"}`);
});

Deno.test({
  name: "generateKeyPair: wg agrees on the public key",
  ignore: Deno.permissions.querySync({ name: "run", command: WG }).state !== "granted" || !exists(WG),
  fn: async () => {
    const pair = await generateKeyPair();
    assertEquals(await wgPubkey(pair.privateKey.reveal()), pair.publicKey);
  },
});

async function wgPubkey(privateKey: string): Promise<string> {
  const child = new Deno.Command(WG, { args: ["pubkey"], stdin: "piped", stdout: "piped" }).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(privateKey + "\n"));
  await input.close();
  return new TextDecoder().decode((await child.output()).stdout).trim();
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function base64(hex: string): string {
  return encodeBase64(Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)));
}
