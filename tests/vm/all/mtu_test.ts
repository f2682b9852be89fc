/**
 * The same network on underlays of every usual MTU, each found by looking at the card. Two virtual machines, installed and
 * uninstalled for each. Needs root and QEMU; `deno task test:vm --all`.
 */
import { assertEquals, assertMatch, fail } from "@std/assert";
import { hostAddresses, type Mtus } from "../../../lib/address.ts";
import { addClient, addGuest } from "../../lab/client.ts";
import { executable } from "../../lab/executables.ts";
import { writeInventory } from "../../lab/inventory.ts";
import type { HostOptions, Lab, Place } from "../../lab/lab.ts";
import { waitForAnswers } from "../../lab/probes.ts";
import { must } from "../../lab/process.ts";
import { expectCode, mobula, setStage } from "../../lab/proof.ts";
import { WEB_SERVER } from "../../lab/underlay.ts";
import { setUnderlayMtu } from "../machine.ts";
import { expectWhole, liveMtus, namedMtu, serveFromWorld, whileDeaf } from "../mtu.ts";
import { notPassed, serveStreams, stream, streamArgv, WHOLE } from "../packets.ts";
import { VM_PACKAGES } from "../qemu.ts";
import { onHost } from "../stage.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
];
const NAMES = HOSTS.map(({ name }) => name);
const GUESTS = [
  { host: "alpha", namespace: "guest-one", address: "10.31.200.5" },
  { host: "beta", namespace: "guest-two", address: "10.31.200.6" },
] as const;
const CLIENT = "10.30.128.1";
const DEADLINE_MS = 120_000;

/**
 * Ethernet, PPPoE, some clouds, the least that IPv6 allows, jumbo frames: what each leaves for WireGuard and for the access network,
 * reckoned by hand and not by what is tested.
 */
const INNER: Readonly<Record<number, Mtus>> = {
  1500: { wireguard: 1440, access: 1386 },
  1492: { wireguard: 1432, access: 1378 },
  1460: { wireguard: 1400, access: 1346 },
  1280: { wireguard: 1220, access: 1166 },
  9000: { wireguard: 8940, access: 8886 },
};
const UNDERLAYS = [1500, 1492, 1460, 1280, 9000] as const;
/** The MTU of the world beyond the hosts' own lines. */
const WORLD_MTU = 1500;

function innerOf(underlay: number): Mtus {
  return INNER[underlay] ?? fail(`no MTUs for an underlay of ${underlay}`);
}

const { proof } = setStage<string>({
  name: "vmmtu",
  hosts: HOSTS,
  kind: "machine",
  packages: VM_PACKAGES,
  prepare: () => executable("compiled"),
});

for (const underlay of UNDERLAYS) {
  proof(
    `MTU ${underlay}: found, computed, full sizes pass, one byte more is told, TCP never stalls`,
    async (lab, program) => {
      await setMtu(lab, underlay);
      const client = JSON.parse(await must([program, "keys", "generate", "--json"]));
      await writeInventory(lab, {
        hostVars: Object.fromEntries(NAMES.map((name) => [name, { mobula_access: "none" }])),
        extraWires: { [CLIENT]: client.public_key },
      });
      const options = { executable: program, timeoutMs: 1_200_000 };
      const pushed = await mobula(lab, options, "push", "--no-reboot", "--confirm-timeout", "900");
      expectCode(pushed, 0, `the push on an underlay of ${underlay}`);
      try {
        await checkUnderlay(lab, underlay, client.private_key);
        if (underlay > 1500) await checkReboot(lab, underlay);
      } finally {
        await removeGuests(lab);
        expectCode(await mobula(lab, options, "uninstall"), 0, "uninstall");
      }
    },
  );
}

/** As a provider's network has it: the card says so, and the wire carries no more. */
async function setMtu(lab: Lab, mtu: number): Promise<void> {
  for (const host of lab.state.hosts) {
    await setUnderlayMtu(lab.state, host, mtu);
    const file = "/etc/systemd/network/10-host0.network";
    await onHost(
      lab,
      host.name,
      `sed -i -e '/^\\[Link\\]/,/^$/d' ${file}
printf '\\n[Link]\\nMTUBytes=${mtu}\\n' >>${file}
networkctl reload; ip link set ens3 mtu ${mtu}`,
    );
  }
}

async function checkUnderlay(lab: Lab, underlay: number, privateKey: string): Promise<void> {
  const mtu = innerOf(underlay);
  for (const name of NAMES) assertEquals(await liveMtus(lab, name), mtu, name);
  await addGuests(lab, mtu);
  await expectWhole(lab, NAMES, () => checkSizes(lab, mtu));
  await checkTooBig(lab, underlay, privateKey);
  await serveFromWorld(lab);
  await serveStreams(lab, { host: "beta" });
  const [one] = GUESTS;
  assertEquals(await whileDeaf(lab.world, () => stream(lab, one, WEB_SERVER)), WHOLE);
  // As a guest has it whose admin did not care: only what the gateway says of segments keeps it from sending too much.
  const setLink = (bytes: number) => onHost(lab, one.host, `ip link set eth0 mtu ${bytes}`, one.namespace);
  await setLink(Math.min(underlay, WORLD_MTU));
  try {
    assertEquals(await whileDeaf(lab.world, () => stream(lab, one, WEB_SERVER)), WHOLE, "too large an MTU");
  } finally {
    await setLink(mtu.access);
  }
  assertEquals(await stream(lab, { host: "alpha" }, hostAddresses(lab.host("beta").id).intrawire), WHOLE);
}

async function checkSizes(lab: Lab, mtu: Mtus): Promise<void> {
  const [one, two] = GUESTS;
  assertEquals(await notPassed(lab, one, [{ address: two.address, size: mtu.access }]), []);
  const { intrawire } = hostAddresses(lab.host("beta").id);
  assertEquals(await notPassed(lab, { host: "alpha" }, [{ address: intrawire, size: mtu.wireguard }]), []);
}

/** A client may send larger packets than what is behind its gateway takes. */
async function checkTooBig(lab: Lab, underlay: number, privateKey: string): Promise<void> {
  const mtu = innerOf(underlay);
  const { address } = lab.host("alpha");
  const publicKey = await onHost(lab, "alpha", "wg show mo-wg-gw public-key", "mobula");
  const laptop = await addClient(lab, {
    name: `laptop${underlay}`,
    address: `198.51.100.${201 + UNDERLAYS.indexOf(underlay as typeof UNDERLAYS[number])}`,
    tunnelAddress: CLIENT,
    privateKey,
    peer: { publicKey, address },
    mtu: mtu.wireguard + 60,
  });
  await widen(lab, laptop, `laptop${underlay}`, underlay);
  const { gateway } = hostAddresses(lab.host("alpha").id);
  await waitForAnswers("the gateway of alpha, from the client", () => laptop, [gateway], DEADLINE_MS);
  const { intrawire } = hostAddresses(lab.host("beta").id);
  assertEquals(await namedMtu(laptop, GUESTS[1].address, mtu.access + 1), mtu.access);
  assertEquals(await namedMtu(laptop, intrawire, mtu.wireguard + 1), mtu.wireguard);
  await serveStreams(lab, GUESTS[1]);
  const said = await whileDeaf(laptop, () => laptop.exec(streamArgv(GUESTS[1].address)));
  assertEquals(said.stdout.trim(), WHOLE, said.stderr);
}

/** The client's own line is one of the underlay. */
async function widen(lab: Lab, laptop: Place, name: string, mtu: number): Promise<void> {
  await must(lab.world.enter(["ip", "link", "set", `n-${name}`, "mtu", String(mtu)]));
  await must(laptop.enter(["ip", "link", "set", "eth0", "mtu", String(mtu)]));
}

async function addGuests(lab: Lab, { access }: Mtus): Promise<void> {
  for (const { host, namespace, address } of GUESTS) {
    await addGuest(lab, host, { name: namespace.replace("guest-", ""), address: `${address}/16` });
    const { gateway } = hostAddresses(lab.host(host).id);
    const said = await onHost(
      lab,
      host,
      `ip route add default via ${gateway}; ip -o link show eth0`,
      namespace,
    );
    assertMatch(said, new RegExp(` mtu ${access} `));
  }
}

async function removeGuests(lab: Lab): Promise<void> {
  for (const { host, namespace } of GUESTS) {
    await onHost(
      lab,
      host,
      `systemctl stop 'lab-streams-*'; ip netns delete ${namespace} || :; ip link delete br-guests || :`,
    );
  }
}

/** Nobody but us gives the card its MTU any more. */
async function checkReboot(lab: Lab, underlay: number): Promise<void> {
  const mtu = innerOf(underlay);
  await lab.reboot("alpha");
  const { intrawire } = hostAddresses(lab.host("beta").id);
  await waitForAnswers("beta after the reboot", () => lab.network("alpha"), [intrawire], DEADLINE_MS);
  assertMatch(await onHost(lab, "alpha", "ip -o link show ens3", "mobula"), new RegExp(` mtu ${underlay} `));
  assertEquals(await notPassed(lab, { host: "alpha" }, [{ address: intrawire, size: mtu.wireguard }]), []);
}
