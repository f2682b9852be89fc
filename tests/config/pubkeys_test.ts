/** wireguard_pubkeys.yml: the same when read back. */
import { assertEquals, assertThrows } from "@std/assert";
import { encodeBase64 } from "@std/encoding/base64";
import fc from "fast-check";
import { isExternalAddress } from "../../lib/config/kinds.ts";
import { type HostPublicKey, parsePubkeys, renderPubkeys } from "../../lib/config/pubkeys.ts";
import { ConfigError } from "../../lib/errors.ts";
import { isKey } from "../../lib/keys.ts";

const KEY_A = "2jT2ySbIKKLVJdbTfKrKYOxHohNQehTPRqaoz4mX6j8=";
const KEY_B = "t+uM1TGLs1+EWgqCmS+f91uP9FwBCfgjWThDxn+MYwQ=";

Deno.test("renderPubkeys: sorted by address, with the age", () => {
  const text = renderPubkeys([
    ["198.51.100.10", { publicKey: KEY_B }],
    ["198.51.100.9", { publicKey: KEY_A, since: "2030-01-02T03:04:05Z" }],
  ]);
  assertEquals(
    text,
    `# WireGuard public keys of the hosts, by external address. Written by mobula at each push.
198.51.100.9: "${KEY_A}" # since 2030-01-02T03:04:05Z
198.51.100.10: "${KEY_B}"
`,
  );
});

Deno.test("renderPubkeys: writes nothing that was not checked", () => {
  assertThrows(() => renderPubkeys([["198.51.100.9\nx", { publicKey: KEY_A }]]), RangeError);
  assertThrows(() => renderPubkeys([["198.51.100.9", { publicKey: `${KEY_A}\n` }]]), RangeError);
  const text = renderPubkeys([["198.51.100.9", { publicKey: KEY_A, since: "now\nx: y" }]]);
  assertEquals(text.split("\n")[1], `198.51.100.9: "${KEY_A}"`);
});

Deno.test("parsePubkeys: needs neither comments nor quotes", () => {
  const text = `198.51.100.9: ${KEY_A}\n"198.51.100.10": '${KEY_B}'   #  since 2030-01-02T03:04:05.678Z \n`;
  assertEquals([...parsePubkeys("f", text)], [
    ["198.51.100.9", { publicKey: KEY_A }],
    ["198.51.100.10", { publicKey: KEY_B, since: "2030-01-02T03:04:05.678Z" }],
  ]);
  assertEquals(parsePubkeys("f", `198.51.100.9: ${KEY_A} # since ever\n`).get("198.51.100.9"), {
    publicKey: KEY_A,
  });
  assertEquals(parsePubkeys("f", "").size, 0);
});

Deno.test("parsePubkeys: says everything that is wrong", () => {
  const error = assertThrows(() => parsePubkeys("f", "x: y\n198.51.100.9: [1]\n"), ConfigError);
  assertEquals(error.message.split("\n"), [
    'f: x: found "x"; expected an IPv4 address that other hosts can reach, outside of 10.30.0.0/16 and 10.31.0.0/16',
    'f: x: found "y"; expected a WireGuard key (32 bytes in base64, 44 characters)',
    "f: 198.51.100.9: found a list; expected a WireGuard key (32 bytes in base64, 44 characters)",
  ]);
  assertEquals(
    assertThrows(() => parsePubkeys("f", "- a"), ConfigError).message,
    "f: found a list; expected a map of public keys by external address",
  );
});

Deno.test("parsePubkeys: gives back what renderPubkeys was given", () => {
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes): string => encodeBase64(bytes))
    .filter(isKey);
  const since = fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }).map((date) =>
    date.toISOString()
  );
  const entry = fc.record({ publicKey: key, since }, { requiredKeys: ["publicKey"] });
  const entries = fc.uniqueArray(fc.tuple(fc.ipV4().filter(isExternalAddress), entry), {
    selector: ([address]) => address,
  });
  fc.assert(fc.property(entries, (list) => {
    const wanted = new Map<string, HostPublicKey>(list);
    const text = renderPubkeys(wanted);
    const seen = parsePubkeys("f", text);
    assertEquals(Object.fromEntries(seen), Object.fromEntries(wanted));
    assertEquals(renderPubkeys(seen), text);
  }));
});
