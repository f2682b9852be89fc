/** Everything rendered for the examples, for the ids at the edges, and from blank to wanted, word by word. */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { loadFleet } from "../../lib/commands/load_fleet.ts";
import type { Baseline } from "../../lib/facts.ts";
import type { Fleet } from "../../lib/fleet.ts";
import type { Network } from "../../lib/net/network.ts";
import { networkSteps } from "../../lib/net/steps.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import type { WantedFile } from "../../lib/step.ts";
import { blankSeen, fleetOf, inputFor, type Mode, MODES } from "../net/fixtures.ts";
import { assertGolden, goldenNames, renderBundle, renderSteps } from "./golden.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

/** Units, programs and modules are the same on every host of a mode: they have a golden file of their own. */
function dependsOnHost(path: string): boolean {
  return !/^\/etc\/systemd\/system\/mobula|^\/opt\/mobula\/bin\/|^\/etc\/modules-load\.d\//.test(path);
}

const INTERFACES = `# The loopback network interface
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address 198.51.100.3/24
    gateway 198.51.100.254
`;

/** Each host of an example was configured by another program before. */
const BASELINES: readonly Partial<Baseline>[] = [
  { resolvConf: { link: "../run/systemd/resolve/stub-resolv.conf" } },
  { interface: "eth0", managers: ["ifupdown"], interfaces: INTERFACES, sshPort: 2222 },
  {
    interface: "enx525400000001",
    managers: ["NetworkManager"],
    addresses: ["203.0.113.8/32", "2001:db8::8/64"],
    routes: [
      { family: "inet", destination: "default", via: "203.0.113.1", metric: 100, onlink: true },
      { family: "inet6", destination: "default", via: "fe80::1", metric: 1024 },
    ],
    resolvers: [],
    search: [],
  },
];

interface Case {
  readonly name: string;
  readonly input: HostInput;
}

/** All hosts in userspace mode, the first one in the other modes, too. */
function casesOf(example: string, fleet: Fleet): Case[] {
  return fleet.hosts.flatMap(({ id, hostname }, index) => {
    const modes: Mode[] = index === 0 ? ["userspace", "kernel", "mixed"] : ["userspace"];
    return modes.map((mode) => ({
      name: `${example}/${hostname}-${mode}`,
      input: inputFor(fleet, id, mode, BASELINES[index]),
    }));
  });
}

/** All files and the firewall's ruleset, as a generation holds them. */
function allFiles(input: HostInput): WantedFile[] {
  const nftables = { path: "/opt/mobula/etc/nftables.nft", content: wantedNetwork(input).firewall.text };
  return [...renderFiles(input), nftables];
}

const examples = [...Deno.readDirSync(EXAMPLES)].flatMap(({ name, isDirectory }) =>
  isDirectory ? [`${name}/hosts.yml`] : /^hosts.*\.yml$/.test(name) ? [name] : []
).sort();

for (const file of examples) {
  const example = `examples/${file.replace(/\/?hosts/, "").replace(/\.yml$/, "") || "hosts"}`;
  Deno.test(`renderFiles: ${example} as in its golden files`, async (t) => {
    const { fleet } = await loadFleet(EXAMPLES + file);
    const cases = casesOf(example, fleet);
    for (const { name, input } of cases) {
      await t.step(name, () => assertGolden(name, renderBundle(allFiles(input), dependsOnHost)));
    }
    await t.step("no golden file is left over", () => {
      assertEquals(goldenNames(example), cases.map(({ name }) => name).sort());
    });
  });
}

for (const mode of Object.keys(MODES) as Mode[]) {
  const input = inputFor(fleetOf([2, 3, 256]), 2, mode);

  Deno.test(`renderFiles: units and programs in ${mode} mode as in the golden file`, () => {
    const files = renderFiles(input).filter(({ path }) => !dependsOnHost(path));
    assertGolden(`programs/${mode}`, renderBundle(files, () => true));
  });

  Deno.test(`networkSteps: from a blank host in ${mode} mode as in the golden file`, () => {
    assertGolden(`steps/${mode}`, renderSteps(networkSteps(wantedNetwork(input), blankSeen(input))));
  });
}

function renderLinks({ links }: Network): string {
  return links.map(({ scope, name, mac, mtu, addresses, peer }) =>
    [`${scope}/${name}`, mac, mtu, ...(addresses ?? []), peer && `- ${peer.scope}/${peer.name} ${peer.mac}`]
      .filter((part) => part !== undefined).join(" ")
  ).join("\n");
}

for (const id of [1, 2, 255, 256, 32767]) {
  Deno.test(`wantedNetwork: addresses, MACs and firewall of id ${id} as in the golden file`, () => {
    const input = inputFor(fleetOf([id, 32766]), id, "userspace");
    const network = wantedNetwork(input);
    const addresses = Object.entries(hostAddresses(id)).map(([role, address]) => `${role} ${address}`);
    assertGolden(
      `ids/${id}`,
      `${addresses.join("\n")}\n\n${renderLinks(network)}\n\n${network.firewall.text}`,
    );
  });
}
