/** The external interface among the live links: by its permanent address, whatever is called by its name meanwhile. */
import { assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { downSteps } from "../../lib/net/down.ts";
import { findExternal, isVirtual } from "../../lib/net/external.ts";
import type { Seen, SeenLink } from "../../lib/net/seen.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { blankSeen, fleetOf, inputFor, NIC_MAC, NO_POLICY, seenOf } from "./fixtures.ts";

const INPUT = inputFor(fleetOf([2, 3]), 2, "kernel");
const WANTED = wantedNetwork(INPUT);
const OTHER_MAC = "52:54:00:00:00:99";

function link(more: Partial<SeenLink>): SeenLink {
  return { scope: "root", name: "enp1s0", mac: NIC_MAC, mtu: 1500, up: true, addresses: [], ...more };
}

function withLinks(...links: readonly SeenLink[]): Seen {
  return { ...blankSeen(INPUT), links };
}

function found(...links: readonly SeenLink[]): string {
  const { scope, name, kind = "card" } = findExternal(withLinks(...links), INPUT.baseline, isVirtual);
  return `${scope} ${name} ${kind}`;
}

Deno.test("findExternal: the address decides, not the name", () => {
  assertEquals(found(link({ name: "enp1s0", mac: OTHER_MAC }), link({ name: "enp9s0" })), "root enp9s0 card");
  assertEquals(
    found(link({ mac: NIC_MAC, permanentMac: OTHER_MAC }), link({ name: "eth1", permanentMac: NIC_MAC })),
    "root eth1 card",
  );
});

Deno.test("findExternal: nothing that stands upon the card, or copies its address, is taken for it", () => {
  const copies = ["vlan", "bridge", "bond", "team", "openvswitch", "macvlan", "dummy"]
    .map((kind) => link({ name: `x-${kind}`, kind }));
  assertEquals(found(...copies, link({ name: "enp9s0" })), "root enp9s0 card");
  assertThrows(() => found(...copies.slice(0, 5)), HostError, `no link has the address ${NIC_MAC}`);
  const ours = link({ scope: "mobula", name: "mo-ext-gw" });
  assertThrows(() => found(ours), HostError, `no link has the address ${NIC_MAC}`);
});

Deno.test("findExternal: what is in the gateway already is not looked for elsewhere", () => {
  assertEquals(
    found(link({ name: "enp1s0" }), link({ scope: "mobula", name: "enp9s0" })),
    "mobula enp9s0 card",
  );
});

Deno.test("findExternal: of two with one address it is the one of that name, as on hosts with a virtual function", () => {
  assertEquals(found(link({ name: "enP2s1" }), link({ name: "enp1s0" })), "root enp1s0 card");
});

Deno.test("findExternal: where no address is burnt in, the name has to do", () => {
  assertEquals(found(link({ mac: OTHER_MAC, kind: "veth" })), "root enp1s0 veth");
});

Deno.test("findExternal: a card in the place of another is refused, with both addresses and the way out", () => {
  const error = assertThrows(() => found(link({ mac: OTHER_MAC })), HostError);
  assertEquals(
    error.message,
    `Cannot find the external interface: enp1s0 has the address ${OTHER_MAC}, and no link has ${NIC_MAC}; ` +
      "expected the network card that carried the host's address before mobula. If enp1s0 is a new card in its place, " +
      'write its address as "mac" into /opt/mobula/baseline.json and run `/opt/mobula/bin/mobula up` on the host\'s console',
  );
});

Deno.test("networkSteps: a card that was plugged in again gets all that it had", () => {
  const seen = seenOf(WANTED);
  const back = { scope: "root", name: "enp9s0", mtu: 1400, up: false, master: undefined } as const;
  const links = seen.links.map((one) => one.name === "enp1s0" ? { ...one, ...back } : one);
  const bystander = link({ name: "enp1s0", mac: OTHER_MAC });
  const steps = networkSteps(WANTED, { ...seen, links: [...links, bystander] });
  assertEquals(steps.map(({ argv, namespace = "root" }) => `${namespace}: ${argv.join(" ")}`), [
    "root: ip link set enp9s0 netns mobula",
    "mobula: ip link set enp9s0 mtu 1500 master mo-ext-gw up",
  ]);
});

function linkCommands(seen: Seen): string[] {
  return downSteps(INPUT.baseline, seen, { restoreSettled: true, policy: NO_POLICY })
    .map(({ argv, namespace = "root" }) => `${namespace}: ${argv.join(" ")}`)
    .filter((line) => /ip link (set|property)/.test(line));
}

function renamed(...others: readonly SeenLink[]): Seen {
  const seen = seenOf(WANTED);
  const links = seen.links.map((one) =>
    one.name === "enp1s0" ? { ...one, name: "enp9s0", altNames: ["enp1s0", "ens9"] } : one
  );
  return { ...seen, links: [...links, ...others] };
}

Deno.test("downSteps: a card under another name is given back under the one of before", () => {
  assertEquals(linkCommands(renamed()), [
    "mobula: ip link set enp9s0 down nomaster",
    "mobula: ip link property del dev enp9s0 altname enp1s0",
    "mobula: ip link set enp9s0 name enp1s0 netns 1",
    "root: ip link set enp1s0 mtu 1500 up",
  ]);
});

Deno.test("downSteps: unless another card has that name now", () => {
  const seen = renamed(link({ mac: OTHER_MAC }));
  assertEquals(linkCommands(seen), [
    "mobula: ip link set enp9s0 down nomaster",
    "mobula: ip link set enp9s0 name enp9s0 netns 1",
    "root: ip link set enp9s0 mtu 1500 up",
  ]);
  const back = withLinks(
    link({ mac: OTHER_MAC }),
    link({ name: "enp9s0", addresses: INPUT.baseline.addresses }),
  );
  assertEquals(linkCommands(back), []);
});
