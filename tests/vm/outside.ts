/** Proofs about who comes from outside, or goes there: an extrawire client, a guest with an own address, a stranger's port scan. */
import { assertEquals, assertMatch } from "@std/assert";
import { parse } from "@std/yaml";
import { hostAddresses } from "../../lib/address.ts";
import { addClient, type Client } from "../lab/client.ts";
import type { Lab } from "../lab/lab.ts";
import {
  allInnerAddresses,
  innerAddresses,
  resolveAt,
  seenAddress,
  unreached,
  waitForAnswers,
} from "../lab/probes.ts";
import { must } from "../lab/process.ts";
import { startScans } from "../lab/scans.ts";
import { WEB_NAME, WEB_SERVER } from "../lab/underlay.ts";
import { ADDRESS, ensureGuests, ONE, TWO } from "./guests.ts";
import { CLIENT, NAMES, NETWORK_DEADLINE_MS, type Proof, type Pushed } from "./stage.ts";

/** Larger than anything behind it, as an admin may have left it. */
const CLIENT_MTU = 1500;

let client: Promise<Client> | undefined;

/** The client, connected through beta; made when first asked for. */
export function ensureClient(lab: Lab, pushed: Pushed): Promise<Client> {
  return client ??= makeClient(lab, pushed);
}

async function makeClient(lab: Lab, pushed: Pushed): Promise<Client> {
  const laptop = await addClient(lab, {
    name: "laptop",
    address: "198.51.100.201",
    tunnelAddress: CLIENT,
    privateKey: pushed.client.privateKey,
    peer: await peerOf(lab, "beta"),
    resolver: hostAddresses(lab.host("beta").id).gateway,
    mtu: CLIENT_MTU,
  });
  const own = hostAddresses(lab.host("beta").id).gateway;
  await waitForAnswers("the gateway of beta, from the client", () => laptop, [own], NETWORK_DEADLINE_MS);
  return laptop;
}

async function peerOf(lab: Lab, name: string) {
  const { address } = lab.host(name);
  const keys = parse(await Deno.readTextFile(`${lab.directory}/wireguard_pubkeys.yml`));
  return { publicKey: (keys as Record<string, string>)[address]!, address };
}

export function declareOutside(proof: Proof): void {
  proof(
    "extrawire client: reaches everything through a kernel host and through a userspace one",
    async (lab, pushed) => {
      await ensureGuests(lab);
      const laptop = await ensureClient(lab, pushed);
      const everything = [...allInnerAddresses(lab.state.hosts), ...Object.values(ADDRESS)];
      assertEquals(await unreached(laptop, everything), [], "through beta");
      assertMatch((await laptop.exec(["getent", "ahostsv4", "printer.example"])).stdout, /^10\.31\.200\.1 /);
      await laptop.connect(await peerOf(lab, "delta"));
      const other = hostAddresses(lab.host("delta").id).gateway;
      await waitForAnswers(
        "the gateway of delta, from the client",
        () => laptop,
        [other],
        NETWORK_DEADLINE_MS,
      );
      assertEquals(await unreached(laptop, everything), [], "through delta");
      await laptop.connect(await peerOf(lab, "beta"));
    },
  );

  proof(
    "guest: an own address behind veth_fac0, all hosts, all gateways, names and the Internet",
    async (lab) => {
      await ensureGuests(lab);
      const one = lab.network(ONE.host, ONE.namespace);
      const { access, gateways } = innerAddresses(lab.state.hosts);
      assertEquals(await unreached(one, [...access, ...gateways, ADDRESS.two]), []);
      const { gateway } = hostAddresses(lab.host("beta").id);
      // Out through the gateway of another host: whichever it asks.
      await must(one.enter(["ip", "route", "replace", "default", "via", gateway]));
      assertEquals(await seenAddress(one, WEB_SERVER), lab.host("beta").address);
      assertEquals(await resolveAt(one, gateway, ["delta", WEB_NAME]), {
        delta: hostAddresses(lab.host("delta").id).access,
        [WEB_NAME]: WEB_SERVER,
      });
      const { intrawire } = innerAddresses(lab.state.hosts);
      assertEquals(await unreached(one, intrawire), [], "intrawire, through beta's gateway");
      assertEquals(await unreached(lab.network(TWO.host, TWO.namespace), [ADDRESS.one]), []);
    },
  );

  proof("ports: a stranger finds nothing but SSH and WireGuard, whatever the mode", async (lab) => {
    const scans = await startScans(lab, "beta");
    assertEquals(await scans.everyPort, {
      ports: [{ port: 22, protocol: "tcp", state: "open" }],
      others: { filtered: 65534 },
    });
    const usual = await scans.usualPorts;
    assertEquals(Object.keys(usual), NAMES);
    for (const [name, { ports, others }] of Object.entries(usual)) {
      const answers = ports.filter(({ state }) => !state.includes("filtered"));
      assertEquals(answers, [{ port: 22, protocol: "tcp", state: "open" }], name);
      assertEquals(Object.keys(others).filter((state) => !state.includes("filtered")), [], name);
    }
    for (const [address, { ports, others }] of Object.entries(await scans.innerPorts)) {
      assertEquals(ports.filter(({ state }) => !state.includes("filtered")), [], address);
      assertEquals(Object.keys(others).filter((state) => !state.includes("filtered")), [], address);
    }
    assertEquals(new Set(Object.values(await scans.names)), new Set([""]));
  });
}
