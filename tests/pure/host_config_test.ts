/** What a host is told, and how it distrusts it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseFleet } from "../../lib/config/parse_fleet.ts";
import { HostError } from "../../lib/errors.ts";
import { hostConfigFor, parseHostConfig } from "../../lib/host_config.ts";

const KEY_A = "2jT2ySbIKKLVJdbTfKrKYOxHohNQehTPRqaoz4mX6j8=";
const KEY_B = "t+uM1TGLs1+EWgqCmS+f91uP9FwBCfgjWThDxn+MYwQ=";
const PAIR = {
  publicKey: "cGD/H2khE3ljTvLVfiSnolPRc3FyZ/Y3fqd5y2pV92c=",
  privateKey: "0IwrqJh9GWOq83nwk6q+eobyrlyFB249vCooLd1b/l8=",
};

const hosts = `
all:
  hosts:
    198.51.100.2: {host_id: 2, hostname: alpha, mobula_access: auto}
    198.51.100.3: {host_id: 3, hostname: beta, wireguard: {public_key: ${PAIR.publicKey}, private_key: ${PAIR.privateKey}}}
    198.51.100.4: {host_id: 256, hostname: gamma}
`;
const fleet = parseFleet({
  hostsYml: { file: "hosts.yml", text: hosts },
  extraHostsYml: { file: "extra_hosts.yml", text: "extra_hosts: {10.31.200.1: wiki}" },
  extraWiresYml: { file: "extra_wires.yml", text: `extra_wires: {10.30.128.1/32: ${KEY_B}}` },
});
const pubkeys = new Map([["198.51.100.2", { publicKey: KEY_A }], ["198.51.100.3", { publicKey: KEY_A }]]);
const config = hostConfigFor(fleet, 2, pubkeys, 1500);

Deno.test("hostConfigFor: everything public of the fleet, pinned keys first", () => {
  assertEquals(config, {
    schema: 1,
    self: 2,
    access: "auto",
    underlayMtu: 1500,
    switching: { mode: "direct", bfdInterval: 100, bfdMultiplier: 3, floodLimit: 2000 },
    hosts: [
      { address: "198.51.100.2", id: 2, hostname: "alpha", publicKey: KEY_A },
      { address: "198.51.100.3", id: 3, hostname: "beta", publicKey: PAIR.publicKey, access: "none" },
      { address: "198.51.100.4", id: 256, hostname: "gamma", access: "none" },
    ],
    extraHosts: [{ address: "10.31.200.1", hostname: "wiki" }],
    extraWires: [{ address: "10.30.128.1", publicKey: KEY_B }],
  });
  assert(!JSON.stringify(config).includes(PAIR.privateKey));
  assertEquals(hostConfigFor(fleet, 256, pubkeys, 1500).access, "none");
});

Deno.test("hostConfigFor: mobula_mtu wins over what the hosts have", () => {
  assertEquals(hostConfigFor({ ...fleet, underlayMtu: 1400 }, 2, pubkeys, 1500).underlayMtu, 1400);
});

Deno.test("hostConfigFor: refuses an id that no host has", () => {
  assertThrows(() => hostConfigFor(fleet, 5, pubkeys, 1500), RangeError, "id 5; expected the id of a host");
});

Deno.test("parseHostConfig: a generation from before the direct paths keeps its tree", () => {
  const { switching: _, ...older } = config;
  assertEquals(parseHostConfig(older).switching.mode, "tree");
});

Deno.test("parseHostConfig: gives back what hostConfigFor made", () => {
  for (const { id } of fleet.hosts) {
    const wanted = hostConfigFor(fleet, id, pubkeys, 1500);
    // Byte for byte: a plan compares it with what lies on the host.
    const text = JSON.stringify(wanted);
    assertEquals(JSON.stringify(parseHostConfig(JSON.parse(text))), text);
  }
});

Deno.test("parseHostConfig: leaves out what a newer version has added", () => {
  const newer = { ...config, more: 1, hosts: config.hosts.map((host) => ({ ...host, more: true })) };
  assertEquals(parseHostConfig(newer), config);
});

const [alpha, beta] = config.hosts;
const REFUSED: Record<string, [unknown, string]> = {
  "no object": ["x", "Invalid input: expected object"],
  "another schema": [{ ...config, schema: 2 }, "schema: "],
  "an id out of range": [{ ...config, self: 32768 }, "self: "],
  "an id of no host": [{ ...config, self: 5 }, "expected this host among hosts"],
  "an MTU too small": [{ ...config, underlayMtu: 576 }, "underlayMtu: "],
  "a name with a newline": [
    { ...config, hosts: [{ ...alpha, hostname: "a\nb" }] },
    "hosts: 0: hostname: expected a host name",
  ],
  "an inner address as external": [
    { ...config, hosts: [{ ...alpha, address: "10.31.0.2" }] },
    "hosts: 0: address: ",
  ],
  "a short key": [
    { ...config, hosts: [{ ...alpha, publicKey: "abc" }] },
    "hosts: 0: publicKey: expected a WireGuard key",
  ],
  "an id twice": [{ ...config, hosts: [alpha, { ...beta, id: 2 }] }, "expected each id once"],
  "a key twice": [{ ...config, hosts: [alpha, { ...beta, publicKey: KEY_B }] }, "expected each key once"],
  "a name twice": [
    { ...config, hosts: [alpha, { ...beta, hostname: "Alpha" }] },
    "expected each host name once",
  ],
  "an extra host elsewhere": [
    { ...config, extraHosts: [{ address: "10.32.0.1", hostname: "x" }] },
    "extraHosts: 0: address: expected inside 10.31.0.0/16",
  ],
  "a client elsewhere": [
    { ...config, extraWires: [{ address: "10.30.0.1", publicKey: KEY_B }] },
    "extraWires: 0: address: expected inside 10.30.128.0/17",
  ],
};

for (const [what, [json, message]] of Object.entries(REFUSED)) {
  Deno.test(`parseHostConfig: refuses ${what}`, () => {
    const error = assertThrows(() => parseHostConfig(json), HostError);
    assert(error.message.startsWith("Cannot read host configuration: "));
    assert(error.message.includes(message), error.message);
  });
}
