/** Proofs about sizes: what the underlay's MTU leaves for each network, and that nothing which is larger gets lost unnoticed. */
import { assertEquals, assertMatch } from "@std/assert";
import { hostAddresses, type Mtus } from "../../lib/address.ts";
import type { Lab, Place } from "../lab/lab.ts";
import { must, start } from "../lab/process.ts";
import { cutPaths, type Direction, mendPaths, waitForDeadPath, waitForPaths } from "../lab/switching.ts";
import { accepts, WEB_SERVER } from "../lab/underlay.ts";
import { waitFor } from "../lab/wait.ts";
import { ADDRESS, ensureGuests, ONE, TWO } from "./guests.ts";
import { ensureClient } from "./outside.ts";
import { notPassed, serveStreams, type Sized, stream, streamArgv, streamServer, WHOLE } from "./packets.ts";
import { everywhere, MTU, NAMES, NETWORK_DEADLINE_MS, onHost, type Proof, same } from "./stage.ts";

/** The MTUs that are live on a host. */
export async function liveMtus(lab: Lab, name: string): Promise<Mtus> {
  const script =
    "cat /sys/class/net/mo-dir-hs/mtu /sys/class/net/veth_fac0/mtu; ip -n mobula -o link show mo-wg-gw";
  const [direct, access, wireguard = ""] = (await onHost(lab, name, script)).split("\n");
  assertMatch(wireguard, new RegExp(` mtu ${direct} `));
  return { wireguard: Number(direct), access: Number(access) };
}

/** Packets that the gateways of these hosts have taken apart, by host name (RFC 4293, ipSystemStatsOutFragCreates). */
async function fragmented(lab: Lab, names: readonly string[]): Promise<Record<string, string>> {
  const count = async (name: string) => {
    const [keys = "", values = ""] = (await onHost(lab, name, "grep ^Ip: /proc/net/snmp", "mobula")).split(
      "\n",
    );
    return values.split(" ")[keys.split(" ").indexOf("FragCreates")] ?? "uncounted";
  };
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await count(name)] as const)),
  );
}

/** Nothing that is sent meanwhile is taken apart on its way out: WireGuard's own packets may be, and nobody would notice. */
export async function expectWhole(
  lab: Lab,
  names: readonly string[],
  work: () => Promise<void>,
): Promise<void> {
  const before = await fragmented(lab, names);
  await work();
  assertEquals(await fragmented(lab, names), before, "packets were fragmented outside");
}

/** The largest packets from one host to all others, on both networks. */
export function fullPackets(lab: Lab, from: string, mtu: Mtus): Sized[] {
  return lab.state.hosts.filter(({ name }) => name !== from).flatMap(({ id }) => [
    { address: hostAddresses(id).access, size: mtu.access },
    { address: hostAddresses(id).intrawire, size: mtu.wireguard },
  ]);
}

/** Whoever is told that a packet is too big does not hear it. */
const DEAF = `add table ip lab
delete table ip lab
table ip lab { chain input { type filter hook input priority 0; icmp type destination-unreachable drop; }; }
`;

/** While the work goes on, a place hears no ICMP error: a stream lives only if its segments fit from the beginning. */
export async function whileDeaf<T>(place: Place, work: () => Promise<T>): Promise<T> {
  await must(place.enter(["nft", "-f", "-"]), { stdin: DEAF });
  try {
    return await work();
  } finally {
    await must(place.enter(["nft", "delete", "table", "ip", "lab"]));
  }
}

/** Has the world serve streams. */
export async function serveFromWorld(lab: Lab): Promise<void> {
  if (await accepts(lab.state, WEB_SERVER, 9000)) return;
  const log = `${lab.directory}/streams.log`;
  lab.state.processes.push(await start(lab.world.enter(streamServer()), { cgroup: lab.state.cgroup, log }));
  await waitFor("the world's server of streams", () => accepts(lab.state, WEB_SERVER, 9000));
}

/** Asks with packets of so many bytes, headers included, that nobody may take apart. */
function pingWhole(address: string, size: number, count: number): string[] {
  return `ping -n -c ${count} -W 5 -M do -s ${size - 28} ${address}`.split(" ");
}

/** How a place is answered that sends a packet too large for a router on the way: the size that the router names. */
export async function namedMtu(place: Place, address: string, size: number): Promise<number | undefined> {
  await must(place.enter(["ip", "route", "flush", "cache"]));
  const said = await place.exec(pingWhole(address, size, 2));
  const named = /Frag needed and DF set \(mtu = (\d+)\)/.exec(said.stdout + said.stderr)?.[1];
  return named === undefined ? undefined : Number(named);
}

export function declareMtu(proof: Proof): void {
  proof(
    "MTU: computed for an underlay of 1500, and a full-size packet passes on both networks",
    async (lab) => {
      assertEquals(MTU, { wireguard: 1440, access: 1386 });
      assertEquals(await everywhere((name) => liveMtus(lab, name)), same(MTU));
      await expectWhole(lab, NAMES, async () => {
        const lost = await everywhere((host) => notPassed(lab, { host }, fullPackets(lab, host, MTU)));
        assertEquals(lost, same([]));
      });
    },
  );

  proof(
    "MTU: one byte more is answered with 'too big' by the gateway, on both networks",
    async (lab, pushed) => {
      await ensureGuests(lab);
      const laptop = await ensureClient(lab, pushed);
      const { intrawire } = hostAddresses(lab.host("gamma").id);
      const found = {
        access: await namedMtu(laptop, ADDRESS.two, MTU.access + 1),
        intrawire: await namedMtu(laptop, intrawire, MTU.wireguard + 1),
      };
      assertEquals(found, { access: MTU.access, intrawire: MTU.wireguard });
      await must(laptop.enter(pingWhole(ADDRESS.two, MTU.access, 1)));
      await must(laptop.enter(pingWhole(intrawire, MTU.wireguard, 1)));
    },
  );

  proof(
    "TCP: a guest and the world, who hears no 'too big', never stall, even with too large an MTU",
    async (lab) => {
      await ensureGuests(lab);
      await serveFromWorld(lab);
      const { gateway } = hostAddresses(lab.host("beta").id);
      await onHost(lab, ONE.host, `ip route replace default via ${gateway}`, ONE.namespace);
      assertEquals(await whileDeaf(lab.world, () => stream(lab, ONE, WEB_SERVER)), WHOLE);
      await onHost(lab, ONE.host, "ip link set eth0 mtu 1500", ONE.namespace);
      try {
        assertEquals(await whileDeaf(lab.world, () => stream(lab, ONE, WEB_SERVER)), WHOLE);
      } finally {
        await onHost(lab, ONE.host, `ip link set eth0 mtu ${MTU.access}`, ONE.namespace);
      }
    },
  );

  proof(
    "TCP: a client and a guest, of whom the client hears no 'too big', never stall",
    async (lab, pushed) => {
      await ensureGuests(lab);
      const laptop = await ensureClient(lab, pushed);
      await serveStreams(lab, TWO);
      const said = await whileDeaf(laptop, () => laptop.exec(streamArgv(ADDRESS.two)));
      assertEquals(said.stdout.trim(), WHOLE, said.stderr);
    },
  );

  proof("TCP: streams of full segments between kernel and userspace hosts, on both networks", async (lab) => {
    await serveStreams(lab, { host: "delta" });
    await serveStreams(lab, { host: "beta" });
    const to = (name: string) => hostAddresses(lab.host(name).id);
    const found = {
      "beta to delta, access": await stream(lab, { host: "beta" }, to("delta").access),
      "beta to delta, intrawire": await stream(lab, { host: "beta" }, to("delta").intrawire),
      "gamma to beta, access": await stream(lab, { host: "gamma" }, to("beta").access),
      "gamma to beta, intrawire": await stream(lab, { host: "gamma" }, to("beta").intrawire),
    };
    assertEquals(found, same(WHOLE, Object.keys(found)) as typeof found);
  });

  proof("TCP: a stream whose direct path is dead passes whole over a third host", async (lab) => {
    const path: Direction = ["alpha", "beta"];
    const back: Direction = ["beta", "alpha"];
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
    await serveStreams(lab, { host: "beta" });
    await cutPaths(lab, path, back);
    try {
      await Promise.all([path, back].map((direction) => waitForDeadPath(lab, direction)));
      const { access } = hostAddresses(lab.host("beta").id);
      assertEquals(await stream(lab, { host: "alpha" }, access), WHOLE);
    } finally {
      await mendPaths(lab);
    }
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
  });
}
