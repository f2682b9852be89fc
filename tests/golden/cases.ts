/**
 * The hosts of which everything rendered is kept in golden files. Reads the examples.
 */
import { readFleet } from "../../lib/commands/load_fleet.ts";
import type { Baseline } from "../../lib/facts.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import type { WantedFile } from "../../lib/step.ts";
import { inputFor, type Mode } from "../net/fixtures.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

/** One host in one mode. */
export interface Case {
  readonly name: string;
  readonly input: HostInput;
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
  {
    interface: "eth0",
    managers: ["ifupdown"],
    interfaces: { "/etc/network/interfaces": INTERFACES },
    sshPort: 2222,
  },
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

/** Every hosts.yml below examples/, with the folder of its golden files. */
export const EXAMPLE_FILES: readonly { readonly file: string; readonly folder: string }[] = [
  ...Deno.readDirSync(EXAMPLES),
].flatMap(({ name, isDirectory }) =>
  isDirectory ? [`${name}/hosts.yml`] : /^hosts.*\.yml$/.test(name) ? [name] : []
).sort().map((file) => ({
  file,
  folder: `examples/${file.replace(/\/?hosts/, "").replace(/\.yml$/, "") || "hosts"}`,
}));

/** All hosts of an example in userspace mode, the first one in the other modes, too. */
export async function casesOf({ file, folder }: typeof EXAMPLE_FILES[number]): Promise<Case[]> {
  const { fleet } = await readFleet(EXAMPLES + file);
  return fleet.hosts.flatMap(({ id, hostname }, index) => {
    const modes: Mode[] = index === 0 ? ["userspace", "kernel", "mixed"] : ["userspace"];
    return modes.map((mode) => ({
      name: `${folder}/${hostname}-${mode}`,
      input: inputFor(fleet, id, mode, BASELINES[index]),
    }));
  });
}

/** All files and the firewall's ruleset, as a generation holds them. */
export function allFiles(input: HostInput): WantedFile[] {
  const nftables = { path: "/opt/mobula/etc/nftables.nft", content: wantedNetwork(input).firewall.text };
  return [...renderFiles(input), nftables];
}
