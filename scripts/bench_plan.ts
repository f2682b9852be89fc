/**
 * Plans a made-up fleet of 1,000 hosts, from the text of `hosts.yml` to every host's files and steps, and prints what it cost as JSON.
 * No effects but that line.
 */
import { parseFleet } from "../lib/config/parse_fleet.ts";
import type { Baseline, Capabilities } from "../lib/facts.ts";
import { planHost, type SeenHost } from "../lib/host/plan.ts";
import { hostConfigFor } from "../lib/host_config.ts";
import { generateKeyPair } from "../lib/keys.ts";

const HOSTS = 1000;
const CAPABILITIES: Capabilities = { wireguard: "kernel", datapath: "system" };

function addressOf(id: number): string {
  return `203.0.${id >> 8}.${id & 255}`;
}

function baselineOf(id: number): Baseline {
  return {
    schema: 1,
    interface: "ens3",
    mac: "52:54:00:00:00:01",
    mtu: 1500,
    addresses: [`${addressOf(id)}/16`],
    routes: [{ family: "inet", destination: "default", via: "203.0.255.254" }],
    resolvers: ["203.0.255.253"],
    search: [],
    resolvConf: { text: "" },
    sshPort: 22,
    managers: ["networkd"],
  };
}

/** A host that has nothing yet but its network card. */
const BLANK: SeenHost = {
  network: {
    namespaces: [],
    sysctls: [],
    links: [{
      scope: "root",
      name: "ens3",
      mac: "52:54:00:00:00:01",
      mtu: 1500,
      up: true,
      addresses: [],
    }],
    routes: [],
    neighbours: [],
    rules: [],
    activeUnits: [],
  },
  files: new Map(),
  modes: new Map(),
  pending: new Set(),
  enabled: false,
};

const ids = Array.from({ length: HOSTS }, (_, index) => index + 1);
const text = `all:\n  hosts:\n${
  ids.map((id) => `    ${addressOf(id)}: { host_id: ${id}, hostname: host${id} }\n`).join("")
}`;
const pubkeys = new Map(
  await Promise.all(
    ids.map(async (id) => [addressOf(id), { publicKey: (await generateKeyPair()).publicKey }] as const),
  ),
);

const start = performance.now();
const fleet = parseFleet({ hostsYml: { file: "hosts.yml", text } });
let steps = 0;
let bytes = 0;
/** Of what steps load: flows, peers, rules. */
let loaded = 0;
for (const id of ids) {
  const config = hostConfigFor(fleet, id, pubkeys, 1500);
  const plan = planHost({ config, baseline: baselineOf(id), capabilities: CAPABILITIES }, BLANK);
  const all = [...plan.before, ...plan.network, ...plan.after];
  steps += all.length;
  bytes += plan.files.reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
  loaded += all.reduce((sum, { stdin }) => sum + (stdin?.length ?? 0), 0);
}
const seconds = (performance.now() - start) / 1000;
const peak = /VmHWM:\s*(\d+)/.exec(await Deno.readTextFile("/proc/self/status"))?.[1] ?? "0";
console.log(
  JSON.stringify({ hosts: HOSTS, seconds, peakMegabytes: Number(peak) / 1024, steps, bytes, loaded }),
);
