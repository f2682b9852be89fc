/** The underlay's MTU that a push and a plan agree on. */
import { assertEquals } from "@std/assert";
import { agreedMtu } from "../../lib/deploy/mtu.ts";
import { fleetOf } from "../net/fixtures.ts";

const fleet = fleetOf([2, 3]);

Deno.test("agreedMtu: the smallest of all cards when everybody is here, whatever was agreed on before", () => {
  assertEquals(agreedMtu(fleet, [{ underlayMtu: 9000 }, { underlayMtu: 1500, fleetMtu: 1400 }]), 1500);
});

Deno.test("agreedMtu: does not grow behind the back of a host that is away or left out", () => {
  assertEquals(agreedMtu(fleet, [{ underlayMtu: 9000, fleetMtu: 1500 }]), 1500);
  assertEquals(agreedMtu(fleet, [{ underlayMtu: 1400, fleetMtu: 1500 }]), 1400);
  assertEquals(agreedMtu(fleet, [{ underlayMtu: 9000 }]), 9000);
});

Deno.test("agreedMtu: mobula_mtu wins, and nobody means Ethernet's", () => {
  assertEquals(agreedMtu({ ...fleet, underlayMtu: 1450 }, [{ underlayMtu: 9000 }]), 1450);
  assertEquals(agreedMtu(fleet, []), 1500);
});
