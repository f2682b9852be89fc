/** What holds for the plan of every fleet. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { hostAddresses } from "../../lib/address.ts";
import type { Fleet } from "../../lib/fleet.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { blankSeen, fleetOf, inputFor, keyOf, MODES, seenOf } from "./fixtures.ts";

const mode = fc.constantFrom(...Object.keys(MODES) as (keyof typeof MODES)[]);
const ids = fc.uniqueArray(fc.integer({ min: 1, max: 32767 }), { minLength: 1, maxLength: 12 });
/** A fleet, the host that is looked at, and its mode. */
const situation = fc.tuple(ids, fc.nat(4), fc.constantFrom("auto", "none"), mode).map(
  ([ids, clients, access, mode]) => {
    const extraWires = Array.from({ length: clients }, (_, index) => ({
      address: `10.30.128.${index + 1}`,
      publicKey: keyOf(100_000 + index),
    }));
    const fleet = fleetOf(ids, { extraWires });
    const hosts = fleet.hosts.map((host) => ({ ...host, access }));
    return inputFor({ ...fleet, hosts } as Fleet, ids[0]!, mode);
  },
);

Deno.test("networkSteps: from blank, no step twice and every word is one line", () => {
  fc.assert(fc.property(situation, (input) => {
    const steps = networkSteps(wantedNetwork(input), blankSeen(input));
    const commands = steps.map(({ argv, namespace }) => [namespace ?? "root", ...argv].join(" "));
    assertEquals(new Set(commands).size, commands.length);
    for (const { argv, title } of steps) {
      for (const word of [title, ...argv]) assertMatch(word, /^[^\p{C}]+$/u);
    }
  }));
});

Deno.test("networkSteps: words of ip commands hold no space, for ip takes many of them as lines", () => {
  fc.assert(fc.property(situation, (input) => {
    for (const { argv } of networkSteps(wantedNetwork(input), blankSeen(input))) {
      if (argv[0] === "ip") assertMatch(argv.join(" "), /^[\w.:/-]+( [\w.:/-]+)*$/);
    }
  }));
});

Deno.test("networkSteps: nothing to do where all that is wanted is there", () => {
  fc.assert(fc.property(situation, (input) => {
    const wanted = wantedNetwork(input);
    assertEquals(networkSteps(wanted, seenOf(wanted)), []);
  }));
});

Deno.test("networkSteps: equal input, equal steps", () => {
  fc.assert(fc.property(situation, (input) => {
    const plan = () => networkSteps(wantedNetwork(structuredClone(input)), blankSeen(input));
    assertEquals(plan(), plan());
  }));
});

Deno.test("networkSteps: a host that leaves the fleet takes its peer, its ports and its flows along, no more", () => {
  fc.assert(fc.property(ids.filter((all) => all.length > 1), mode, (ids, mode) => {
    const [self = 1] = ids;
    const gone = ids.at(-1) ?? 0;
    const before = wantedNetwork(inputFor(fleetOf(ids), self, mode));
    const after = wantedNetwork(inputFor(fleetOf(ids.slice(0, -1)), self, mode));
    const steps = networkSteps(after, seenOf(before));
    const removed = steps.flatMap(({ argv }) => argv.filter((word) => /^mo-(path|t)-/.test(word))).sort();
    assertEquals(removed, [`mo-path-${gone}`, `mo-t-${gone}`]);
    assertEquals(steps.map(({ argv }) => argv[0]), ["wg", "ovs-vsctl", "/opt/mobula/bin/load-flows"]);
    assertEquals(steps[0]?.argv.slice(-3), ["peer", keyOf(gone), "remove"]);
    // Groups name other hosts as well, those that may help; and table 5 names all.
    const lines = (text: string) =>
      new Set(text.split("\n").filter((line) => !/^group |^flow table=5,/.test(line)));
    const [was, is] = [lines(before.flows.text), lines(after.flows.text)];
    assertEquals([...is].filter((line) => !was.has(line)), []);
    for (const line of [...was].filter((line) => !is.has(line))) {
      assertMatch(
        line,
        new RegExp(
          `mo-path-${gone},|reg1=${gone},|tun_id=(${gone}|${
            gone + 0x8000
          }),|set_field:${gone}->tun_id|load:${gone}->`,
        ),
      );
    }
  }));
});

Deno.test("wantedNetwork: no two links of a namespace share a name or an address", () => {
  fc.assert(fc.property(situation, (input) => {
    const { links } = wantedNetwork(input);
    const ends = [...links, ...links.flatMap(({ peer }) => peer ?? [])];
    const own = ends.filter(({ mac }) => mac?.startsWith("02:6d:6f:")).map(({ mac }) => mac);
    assertEquals(new Set(own).size, own.length);
    const names = links.map(({ scope, name }) => `${scope}/${name}`);
    assertEquals(new Set(names).size, names.length);
    for (const { name } of ends) assert(name.length <= 15);
    const addresses = links.flatMap(({ addresses }) => addresses ?? []);
    assertEquals(new Set(addresses).size, addresses.length);
  }));
});

Deno.test("wantedNetwork: peers may send from their own addresses only", () => {
  fc.assert(fc.property(ids, mode, (ids, mode) => {
    const { wireguard } = wantedNetwork(inputFor(fleetOf(ids), ids[0]!, mode));
    const allowed = wireguard.peers.flatMap(({ allowedIps }) => allowedIps);
    assertEquals(
      allowed.toSorted(),
      ids.slice(1).map(hostAddresses).flatMap(({ intrawire, tunnel }) => [`${intrawire}/32`, `${tunnel}/32`])
        .sort(),
    );
  }));
});

Deno.test("wantedNetwork: a host without a key is no peer and has no port", () => {
  const input = inputFor(fleetOf([2, 3, 4]), 2, "kernel");
  const hosts = input.config.hosts.map(({ publicKey, ...host }) =>
    host.id === 3 ? host : { ...host, publicKey }
  );
  const network = wantedNetwork({ ...input, config: { ...input.config, hosts } });
  assertEquals(network.wireguard.peers.map(({ label }) => label), ["host-4"]);
  assertEquals(network.switch.ports.map(({ name }) => name), [
    "mo-fac-ovs",
    "mo-t-4",
    "mo-path-4",
    "mo-relay",
  ]);
});

Deno.test("wantedNetwork: a next hop outside of the subnet gets its route before the one through it", () => {
  const routes = [
    { family: "inet", destination: "default", via: "172.31.1.1", metric: 100 },
    { family: "inet", destination: "172.31.1.1", metric: 100 },
  ] as const;
  const input = inputFor(fleetOf([2]), 2, "kernel", { addresses: ["192.0.2.2/32"], routes });
  const steps = networkSteps(wantedNetwork(input), blankSeen(input));
  const destinations = steps.filter(({ argv }) => argv.includes("route")).map(({ argv }) => argv[3]);
  assertEquals(destinations.slice(0, 2), ["172.31.1.1", "default"]);
});
