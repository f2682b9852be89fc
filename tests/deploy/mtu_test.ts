/** The underlay's MTU that a push and a plan agree on. */
import { assertEquals, assertMatch } from "@std/assert";
import { agreedMtu, loweringHosts, refusedMtus } from "../../lib/deploy/mtu.ts";
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

Deno.test("refusedMtus: a card below 1400 needs a word in hosts.yml", () => {
  const hosts = [{ id: 2, underlayMtu: 1500 }, { id: 3, underlayMtu: 600 }, { id: 4, underlayMtu: 1280 }];
  assertEquals([...refusedMtus(fleet, hosts).keys()], [3, 4]);
  assertMatch(refusedMtus(fleet, hosts).get(3)!, /600 bytes.*expected 1400 or more.*mobula_mtu/);
  assertEquals(refusedMtus({ ...fleet, underlayMtu: 1280 }, hosts).size, 0);
});

Deno.test("loweringHosts: who takes less than others", () => {
  const hosts = [{ id: 2, underlayMtu: 1500 }, { id: 3, underlayMtu: 1450 }];
  assertEquals(loweringHosts(fleet, hosts).map(({ id }) => id), [3]);
  assertEquals(loweringHosts(fleet, hosts.slice(1)), []);
  assertEquals(loweringHosts({ ...fleet, underlayMtu: 1450 }, hosts), []);
});
