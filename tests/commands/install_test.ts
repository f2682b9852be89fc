import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { findSelf } from "../../lib/commands/install.ts";
import { UsageError } from "../../lib/errors.ts";
import { fleetOf, hostOf } from "../deploy/fleet.ts";

const FLEET = fleetOf([hostOf(2), hostOf(3, { hostname: "db.example.net" }), hostOf(4)]);

function facts(hostname: string, ...addresses: string[]) {
  return { hostname, addresses: addresses.map((address) => ({ interface: "eth0", address })) };
}

Deno.test("findSelf: by external address first, then by name, then as told", () => {
  assertEquals(findSelf(FLEET, facts("web4", "127.0.0.1/8", "198.51.100.2/24")).id, 2);
  assertEquals(findSelf(FLEET, facts("WEB4", "10.0.0.7/24")).id, 4);
  assertEquals(findSelf(FLEET, facts("db", "10.0.0.7/24")).id, 3);
  assertEquals(findSelf(FLEET, facts("db", "198.51.100.2/24"), 4).id, 4);
});

Deno.test("findSelf: none and more than one ask for --host-id", () => {
  for (const seen of [facts("other", "10.0.0.7/24"), facts("x", "198.51.100.2/24", "198.51.100.4/24")]) {
    assertMatch(
      assertThrows(() => findSelf(FLEET, seen), UsageError).message,
      /expected exactly one.*--host-id/,
    );
  }
  assertMatch(
    assertThrows(() => findSelf(FLEET, facts("x"), 9), UsageError).message,
    /host 9.*2 \(web2\), 3/,
  );
});
