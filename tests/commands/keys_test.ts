import { assertEquals } from "@std/assert";
import { keyRows, renderAge, renderKeys } from "../../lib/commands/keys.ts";
import { Secret } from "../../lib/secret.ts";
import { fleetOf, hostOf } from "../deploy/fleet.ts";

const KEY = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";

Deno.test("renderKeys: host, id, key and age; never a private key", () => {
  const pinnedKeys = { publicKey: KEY, privateKey: new Secret("hidden") };
  const fleet = fleetOf([hostOf(2), hostOf(3), hostOf(256, { pinnedKeys, hostname: "db.example.net" })]);
  const pubkeys = new Map([["198.51.100.2", { publicKey: KEY, since: "2026-11-20T09:00:00Z" }]]);
  const table = renderKeys(keyRows(fleet, pubkeys), new Date("2026-11-22T10:00:00Z"));
  assertEquals(table.split("\n"), [
    "HOST            ID   PUBLIC KEY                                    AGE",
    `web2            2    ${KEY}  2 days`,
    "web3            3    none: never installed                         -",
    `db.example.net  256  ${KEY}  pinned`,
  ]);
});

Deno.test("renderAge: the largest unit that fits", () => {
  assertEquals([0, 59, 60, 7199, 7200, 86400 * 400].map(renderAge), [
    ...["less than a minute", "less than a minute", "1 minute", "1 hour", "2 hours", "400 days"],
  ]);
});
