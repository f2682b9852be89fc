/** The address plan: golden values users depend on. */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { hostAddresses, hostMac, innerMtus, inNetwork, parseIpv4 } from "../../lib/address.ts";

const GOLDEN: [number, string, string, string, string][] = [
  [1, "10.31.0.1", "10.31.128.1", "10.30.0.1", "169.254.0.1"],
  [2, "10.31.0.2", "10.31.128.2", "10.30.0.2", "169.254.0.2"],
  [255, "10.31.0.255", "10.31.128.255", "10.30.0.255", "169.254.0.255"],
  [256, "10.31.1.0", "10.31.129.0", "10.30.1.0", "169.254.1.0"],
  [32767, "10.31.127.255", "10.31.255.255", "10.30.127.255", "169.254.127.255"],
];

for (const [id, gateway, access, intrawire, tunnel] of GOLDEN) {
  Deno.test(`hostAddresses: id ${id}`, () => {
    assertEquals(hostAddresses(id), { gateway, access, intrawire, tunnel });
  });
}

Deno.test("hostAddresses: refuses every other id", () => {
  for (const id of [0, -1, 32768, 1.5, NaN, Infinity]) {
    assertThrows(() => hostAddresses(id), RangeError, `id ${id}; expected a whole number from 1 to 32767`);
  }
});

Deno.test("hostAddresses: no two hosts share an address", () => {
  const all = Array.from({ length: 32767 }, (_, index) => Object.values(hostAddresses(index + 1))).flat();
  assertEquals(new Set(all).size, 4 * 32767);
});

Deno.test("hostMac: is local, holds the id and the role", () => {
  assertEquals(hostMac(256, "gateway"), "02:6d:6f:01:00:01");
  assertEquals(hostMac(32767, "veth_fac0"), "02:6d:6f:7f:ff:02");
});

Deno.test("parseIpv4: takes dotted quads only", () => {
  assertEquals(parseIpv4("198.51.100.2"), 0xc6336402);
  for (
    const text of [
      "",
      "1.2.3",
      "1.2.3.4.5",
      "01.2.3.4",
      "1.2.3.256",
      "1.2.3.4 ",
      "1.2.3.4\n",
      "0x1.2.3.4",
      "١.2.3.4",
    ]
  ) {
    assertEquals(parseIpv4(text), undefined, text);
  }
});

Deno.test("parseIpv4: every 32-bit number is one address", () => {
  fc.assert(fc.property(fc.ipV4(), (text) => {
    const bits = parseIpv4(text) ?? NaN;
    assertEquals([24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join("."), text);
  }));
});

Deno.test("inNetwork: knows the borders", () => {
  const inside = ["10.30.128.0", "10.30.255.255"].map((address) => inNetwork(address, "10.30.128.0/17"));
  const outside = ["10.30.127.255", "10.31.0.0", "x"].map((address) => inNetwork(address, "10.30.128.0/17"));
  assertEquals([inside, outside], [[true, true], [false, false, false]]);
});

Deno.test("innerMtus: leaves room for WireGuard, geneve and one VLAN tag", () => {
  assertEquals(innerMtus(1500), { wireguard: 1440, access: 1386 });
  assertEquals(innerMtus(1500, "ipv6"), { wireguard: 1420, access: 1366 });
});
