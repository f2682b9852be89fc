/**
 * Proofs about the intrawire's shortcut: what is for the host itself goes straight to it on kernels that know how, everything else goes
 * the usual way. Runs scripts on hosts.
 */
import { assert, assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import type { Lab } from "../lab/lab.ts";
import { ensureGuests, ONE } from "./guests.ts";
import { serveStreams, stream, streamArgv, WHOLE } from "./packets.ts";
import { ensureClient } from "./outside.ts";
import { CONTAINER, NAMES, NETWORK_DEADLINE_MS, onHost, type Proof } from "./stage.ts";
import { waitForPaths } from "../lab/switching.ts";

/** Preferences of the filters for TCP and UDP: what answers a translated packet, and what is for the host. */
const FILTERS = { tcp: { translated: [2, 3], own: [4] }, udp: { own: [7] } } as const;

/** Packets that filters of a host have taken, by preference; nothing where there are none. */
async function taken(lab: Lab, host: string, preferences: readonly number[]): Promise<number | undefined> {
  const counts = await Promise.all(preferences.map(async (preference) => {
    const argv = `tc -s filter show dev mo-wg-gw ingress pref ${preference}`.split(" ");
    const said = (await lab.exec(host, argv, { namespace: "mobula" })).stdout;
    return /Sent \d+ bytes (\d+) pkt/.exec(said)?.[1];
  }));
  return counts.includes(undefined) ? undefined : counts.reduce((sum, count) => sum + Number(count), 0);
}

/** The number by which a count grows while the work goes on. */
async function growth(count: () => Promise<number | undefined>, work: () => Promise<void>): Promise<number> {
  const before = await count();
  await work();
  const after = await count();
  assert(before !== undefined && after !== undefined, "there is such a filter");
  return after! - before!;
}

/** Bytes of a datagram that has to be taken apart. */
const LARGE = 4000;
const PORT = 9010;

/** Shell: answers one datagram at a port with the number of its bytes. */
const COUNT_DATAGRAM = (port: number) =>
  `systemd-run --quiet --collect --unit=lab-datagram-${port} socat -T 60 UDP-LISTEN:${port} "SYSTEM:dd bs=65535 count=1 2>/dev/null | wc -c"
until ss -Huln "sport = ${port}" | grep -q .; do sleep 0.1; done`;
/** Sends one of so many bytes, and says what it was answered. */
const SEND_DATAGRAM =
  'exec 3<>"/dev/udp/$0/$1"; head -c "$2" /dev/zero >&3; timeout 60 dd bs=100 count=1 <&3 2>/dev/null';

/** Sends a datagram of so many bytes from one host to another's intrawire address; gives how many got there. */
async function datagram(lab: Lab, from: string, to: string, size: number): Promise<number> {
  const port = PORT + size;
  await onHost(lab, to, COUNT_DATAGRAM(port));
  const { intrawire } = hostAddresses(lab.host(to).id);
  const said = await lab.exec(from, ["bash", "-c", SEND_DATAGRAM, intrawire, String(port), String(size)]);
  return Number(said.stdout);
}

export function declareShortcut(proof: Proof): void {
  /** A path that has died is led over the access network, which has no shortcut. */
  const wireProof: Proof = (name, check) =>
    proof(name, async (lab, pushed) => {
      await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
      await check(lab, pushed);
    });
  const to = (lab: Lab, name: string) => hostAddresses(lab.host(name).id).intrawire;

  wireProof(
    "shortcut: a stream for the host itself takes it, on each release",
    async (lab) => {
      for (const [from, name] of [["gamma", "alpha"], ["gamma", "beta"], ["alpha", "gamma"]] as const) {
        await serveStreams(lab, { host: name });
        const grown = await growth(() => taken(lab, name, FILTERS.tcp.own), async () => {
          assertEquals(await stream(lab, { host: from }, to(lab, name)), WHOLE);
        });
        assert(grown > 200, `${grown} packets of a stream to ${name}; expected all of them`);
      }
      // The container shares this machine's kernel, which may have no such actions.
      await serveStreams(lab, { host: CONTAINER });
      assertEquals(await stream(lab, { host: "alpha" }, to(lab, CONTAINER)), WHOLE);
    },
  );

  wireProof("shortcut: a guest's translated stream is brought back to it, not to the host", async (lab) => {
    await ensureGuests(lab);
    await serveStreams(lab, { host: "beta" });
    const { gateway } = hostAddresses(lab.host(ONE.host).id);
    await onHost(lab, ONE.host, `ip route replace default via ${gateway}`, ONE.namespace);
    const grown = await growth(() => taken(lab, ONE.host, FILTERS.tcp.translated), async () => {
      assertEquals(await stream(lab, ONE, to(lab, "beta")), WHOLE);
    });
    assert(grown > 200, `${grown} packets came back to the guest; expected all of them`);
  });

  wireProof(
    "shortcut: a client's stream goes the usual way, even with too large an MTU",
    async (lab, pushed) => {
      const laptop = await ensureClient(lab, pushed);
      await serveStreams(lab, { host: "beta" });
      const grown = await growth(() => taken(lab, "beta", FILTERS.tcp.own), async () => {
        const said = await laptop.exec(streamArgv(to(lab, "beta")));
        assertEquals(said.stdout.trim(), WHOLE, said.stderr);
      });
      assertEquals(grown, 0);
    },
  );

  wireProof(
    "shortcut: a datagram takes it, one in parts goes the usual way, and both arrive whole",
    async (lab) => {
      const small = await growth(() => taken(lab, "beta", FILTERS.udp.own), async () => {
        assertEquals(await datagram(lab, "gamma", "beta", 100), 100);
      });
      assertEquals(small, 1);
      const large = await growth(() => taken(lab, "beta", FILTERS.udp.own), async () => {
        assertEquals(await datagram(lab, "gamma", "beta", LARGE), LARGE);
      });
      assertEquals(large, 0);
    },
  );
}
