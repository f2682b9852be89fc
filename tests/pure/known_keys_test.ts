/** Keys that hosts may be using, from the announcement of new ones until the old ones are forgotten. */
import { assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { callWords, movesOf, moveWords, silentKeys } from "../../lib/host/follow.ts";
import { announceKeys, forgetKeys, provenKey } from "../../lib/known_keys.ts";
import { parseAnnouncement, parseKnownKeys } from "../../lib/parse_known_keys.ts";
import { keyOf } from "../net/fixtures.ts";

const [A, B, C, D] = [keyOf(1), keyOf(2), keyOf(3), keyOf(4)];

Deno.test("announceKeys: the newest is last, and what an earlier push left is kept", () => {
  const first = announceKeys(undefined, { 2: [A, B], 3: [C] }, A);
  assertEquals(first, { schema: 1, hold: A, hosts: { 2: [A, B], 3: [C] } });
  assertEquals(announceKeys(first, { 2: [A, D] }, undefined), { schema: 1, hosts: { 2: [B, A, D], 3: [C] } });
  assertEquals(announceKeys(undefined, { 2: [A, A] }, undefined).hosts, { 2: [A] });
});

Deno.test("announceKeys: no more than eight keys of one host, and never without the announced ones", () => {
  let known = announceKeys(undefined, { 2: [keyOf(100)] }, undefined);
  for (let number = 101; number < 120; number++) {
    known = announceKeys(known, { 2: [keyOf(number)] }, undefined);
  }
  assertEquals(known.hosts[2], [112, 113, 114, 115, 116, 117, 118, 119].map(keyOf));
});

Deno.test("forgetKeys: the others stay known; nothing left is undefined", () => {
  const known = { schema: 1, hosts: { 2: [A, B], 3: [C, D] } } as const;
  assertEquals(forgetKeys(known, [2, 7]), { schema: 1, hosts: { 3: [C, D] } });
  assertEquals(forgetKeys(known, [2, 3]), undefined);
});

Deno.test("parseKnownKeys: refuses what is no key and no id", () => {
  const known = { schema: 1, hold: A, hosts: { 2: [A, B] } } as const;
  assertEquals(parseKnownKeys(JSON.parse(JSON.stringify(known))), known);
  for (
    const wrong of ["x", { ...known, hold: "x" }, { ...known, hosts: { two: [A] } }, { hosts: { 2: ["x"] } }]
  ) {
    assertThrows(() => parseKnownKeys(wrong), HostError, "Cannot read the announced keys");
  }
});

Deno.test("parseAnnouncement: one key under one id, and nothing that is no key", () => {
  assertEquals(parseAnnouncement({ 2: [A, B], 3: [C] }), { 2: [A, B], 3: [C] });
  assertThrows(() => parseAnnouncement({ 2: [A], 3: [A] }), HostError, "hosts 2 and 3 have the same key");
  assertThrows(
    () => parseAnnouncement({ 2: ["not a key\n[Peer]"] }),
    HostError,
    "Cannot read the announced keys",
  );
});

Deno.test("announceKeys: a key that another host has now is no longer an older one of the first", () => {
  const first = announceKeys(undefined, { 2: [A], 3: [B] }, undefined);
  assertEquals(announceKeys(first, { 3: [A] }, undefined).hosts, { 2: [], 3: [B, A] });
});

Deno.test("provenKey: the latest handshake, in the same second that of the newer key, none before the first", () => {
  const keys = [A, B];
  assertEquals(provenKey(keys, new Map([[A, 0], [B, 0]])), undefined);
  assertEquals(provenKey(keys, new Map([[A, 5], [B, 0]])), A);
  assertEquals(provenKey(keys, new Map([[A, 5], [B, 5]])), B);
  assertEquals(provenKey(keys, new Map([[A, 9], [B, 5]])), A);
  assertEquals(provenKey(keys, new Map([[A, 5], [B, 5]]), (key) => key === A), A);
  assertEquals(provenKey(keys, new Map([[A, 4], [B, 5]]), (key) => key === A), B);
});

const known = { schema: 1, hosts: { 2: [A, B], 256: [C, D] } } as const;

const NONE = new Map<string, number>();

Deno.test("movesOf: the addresses of a host follow its handshake, and only then", () => {
  const handshakes = new Map([[A, 5], [B, 6], [C, 5], [D, 0]]);
  const toB = [{ publicKey: B, allowedIps: ["10.30.0.2/32", "169.254.0.2/32"] }];
  assertEquals(movesOf(known, { handshakes, before: NONE }, new Set([A, C])), toB);
  assertEquals(movesOf(known, { handshakes, before: NONE }, new Set([B, C])), []);
  const never = new Map([[A, 0], [B, 0]]);
  assertEquals(movesOf(known, { handshakes: never, before: never }, new Set([A, C])), []);
});

Deno.test("movesOf: in the same second the handshake that is new is the later one, whichever key is newer", () => {
  const handshakes = new Map([[A, 5], [B, 5]]);
  const to = (publicKey: string) => [{ publicKey, allowedIps: ["10.30.0.2/32", "169.254.0.2/32"] }];
  assertEquals(movesOf(known, { handshakes, before: new Map([[A, 3], [B, 5]]) }, new Set([B])), to(A));
  assertEquals(movesOf(known, { handshakes, before: new Map([[A, 5], [B, 0]]) }, new Set([A])), to(B));
  assertEquals(movesOf(known, { handshakes, before: handshakes }, new Set([A])), []);
  assertEquals(movesOf(known, { handshakes, before: NONE }, new Set([A])), []);
  assertEquals(movesOf(known, { handshakes, before: NONE }, new Set()), to(B));
});

Deno.test("movesOf: no peer is made that is not there", () => {
  assertEquals(movesOf(known, { handshakes: new Map([[A, 5]]), before: NONE }, new Set([A])), []);
});

Deno.test("moveWords: what wg takes where it is the kernel's", () => {
  const moves = [{ publicKey: B, allowedIps: ["10.30.0.2/32", "169.254.0.2/32"] }];
  assertEquals(moveWords(moves), ["peer", B, "allowed-ips", "10.30.0.2/32,169.254.0.2/32"]);
  assertEquals(moveWords([]), []);
});

Deno.test("silentKeys: every key of a host that was not heard since", () => {
  const handshakes = new Map([[A, 5], [B, 0], [C, 0], [D, 0]]);
  assertEquals(silentKeys(known, handshakes, 0), [C, D]);
  assertEquals(silentKeys(known, handshakes, 5), [C, D]);
  assertEquals(silentKeys(known, handshakes, 6), [A, B, C, D]);
  assertEquals(callWords([A], "on"), ["peer", A, "persistent-keepalive", "1"]);
  assertEquals(callWords([A], "off"), ["peer", A, "persistent-keepalive", "off"]);
});
