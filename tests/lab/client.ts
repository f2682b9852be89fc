/**
 * Those who meet Mobula's hosts from outside: an admin's WireGuard client, a port scanner, a guest machine behind a host.
 * Makes namespaces and processes in the lab.
 */
import { type Lab, type Place, placeOf } from "./lab.ts";
import { must, start } from "./process.ts";
import { saveState } from "./state.ts";
import { ipBatch } from "./underlay.ts";
import { waitFor } from "./wait.ts";

/** The one host that a client is connected through. */
export interface ClientPeer {
  readonly publicKey: string;
  /** External address of the host. */
  readonly address: string;
  /** Default: 51820. */
  readonly port?: number;
}

/** An extrawire client. */
export interface ClientOptions {
  readonly name: string;
  /** Address on the underlay, 198.51.100.n. */
  readonly address: string;
  /** Extrawire address, 10.30.128.0/17. */
  readonly tunnelAddress: string;
  readonly privateKey: string;
  readonly peer: ClientPeer;
  /** What `/etc/resolv.conf` says in the client. */
  readonly resolver?: string;
  /** Bytes; default: 1420. */
  readonly mtu?: number;
}

/** A connected client. */
export interface Client extends Place {
  /** Connects through another host instead. */
  readonly connect: (peer: ClientPeer) => Promise<void>;
}

const CLIENT_ROUTES = ["10.30.0.0/16", "10.31.0.0/16"];

/** The client's own `/run/wireguard` and `/etc/resolv.conf`: the names would otherwise be those of this machine. */
const CLIENT_SCRIPT = `
resolver=$1; file=$2
mkdir -p /run/wireguard
mount -t tmpfs tmpfs /run/wireguard
echo "nameserver $resolver" >"$file"
mount --bind "$file" /etc/resolv.conf
exec wireguard-go -f wg0
`;

/** Adds a machine with plain WireGuard to the lab. */
export async function addClient(lab: Lab, options: ClientOptions): Promise<Client> {
  const node = await lab.addNode(options.name, options.address);
  const script = [
    "sh",
    "-eu",
    "-c",
    CLIENT_SCRIPT,
    "sh",
    options.resolver ?? "127.0.0.1",
    `${lab.directory}/${options.name}.resolv`,
  ];
  const process = await start(node.enter(["unshare", "--mount", "--propagation", "slave", ...script]), {
    cgroup: lab.state.cgroup,
    log: `${lab.directory}/${options.name}.log`,
    env: { PATH: SEARCH_PATH, LOG_LEVEL: "error" },
  });
  lab.state.processes.push(process);
  saveState(lab.state);
  const enter = (
    argv: readonly string[],
  ) => ["nsenter", "--target", String(process.pid), "--net", "--mount", "--", ...argv];
  const place = placeOf(lab.state, enter);
  const connect = (peer: ClientPeer) => setPeer(place, options.privateKey, peer);
  await waitFor(
    `wireguard-go of ${options.name}`,
    async () => (await place.exec(["wg", "show", "wg0"])).code === 0,
  );
  await connect(options.peer);
  await ipBatch(node.namespace, [
    `address add ${options.tunnelAddress}/32 dev wg0`,
    `link set wg0 mtu ${options.mtu ?? 1420} up`,
    ...CLIENT_ROUTES.map((route) => `route add ${route} dev wg0`),
  ]);
  return { ...place, connect };
}

const SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

/** The whole configuration at once and on standard input: the private key appears in no argument list. */
async function setPeer(place: Place, privateKey: string, peer: ClientPeer): Promise<void> {
  const lines = [
    "[Interface]",
    `PrivateKey = ${privateKey}`,
    "[Peer]",
    `PublicKey = ${peer.publicKey}`,
    `Endpoint = ${peer.address}:${peer.port ?? 51820}`,
    `AllowedIPs = ${CLIENT_ROUTES.join(", ")}`,
    "PersistentKeepalive = 5",
  ];
  await must(place.enter(["wg", "setconf", "wg0", "/dev/stdin"]), { stdin: lines.join("\n") + "\n" });
}

/** A port that answered in some way. */
export interface ScannedPort {
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** nmap's word: open, closed, open|filtered, … */
  readonly state: string;
}

/** What a scan found. */
export interface ScanResult {
  /** Ports listed one by one. */
  readonly ports: readonly ScannedPort[];
  /** Ports that nmap only counts, by state, e.g. `{ filtered: 65533 }`. */
  readonly others: Readonly<Record<string, number>>;
}

/** Which ports to scan, in nmap's notation, e.g. `1-65535` or `53,67`. */
export interface ScanOptions {
  readonly tcp?: string;
  readonly udp?: string;
}

/** Scans an address from a place outside, e.g. the world. */
export async function scanPorts(
  place: Place,
  address: string,
  { tcp, udp }: ScanOptions,
): Promise<ScanResult> {
  const kinds = [tcp === undefined ? "" : "-sS", udp === undefined ? "" : "-sU"].filter(Boolean);
  const ports = [tcp === undefined ? "" : `T:${tcp}`, udp === undefined ? "" : `U:${udp}`].filter(Boolean)
    .join(",");
  // Closed UDP ports answer only so many times a second; a high rate would make them look silent.
  const speed = udp === undefined ? ["--min-rate", "4000", "--defeat-rst-ratelimit"] : [];
  const argv = [
    "nmap",
    "-n",
    "-Pn",
    "-oX",
    "-",
    "-T4",
    "--max-retries",
    "2",
    ...speed,
    ...kinds,
    "-p",
    ports,
    address,
  ];
  return parseScan(await must(place.enter(argv), { timeoutMs: 300_000 }));
}

/** nmap's XML → what was found. */
export function parseScan(xml: string): ScanResult {
  const ports = [...xml.matchAll(/<port protocol="(tcp|udp)" portid="(\d+)"><state state="([^"]+)"/g)]
    .map(([, protocol, port, state]) => ({
      protocol: protocol as "tcp" | "udp",
      port: Number(port),
      state: String(state),
    }));
  const others: Record<string, number> = {};
  for (const [, state, count] of xml.matchAll(/<extraports state="([^"]+)" count="(\d+)"/g)) {
    others[String(state)] = (others[String(state)] ?? 0) + Number(count);
  }
  return { ports, others };
}

/** A machine behind a host: a namespace there, bridged to the host's access link. */
export interface GuestOptions {
  readonly name: string;
  /** Free access address with its prefix length, e.g. 10.31.200.7/16. */
  readonly address: string;
  /** The host's link to the access network; default: veth_fac0. */
  readonly uplink?: string;
  readonly mac?: string;
}

/** Adds a guest to a host and bridges it to the access link, which must carry no address of its own. */
export async function addGuest(lab: Lab, host: string, options: GuestOptions): Promise<Place> {
  const { name, address, uplink = "veth_fac0", mac } = options;
  const namespace = `guest-${name}`;
  const lines = [
    `ip link show br-guests >/dev/null 2>&1 || ip link add br-guests type bridge forward_delay 0 mcast_snooping 0`,
    `ip link set ${uplink} master br-guests up`,
    `ip link set br-guests up`,
    `ip netns add ${namespace}`,
    `ip link add g-${name} type veth peer name eth0 ${
      mac === undefined ? "" : `address ${mac}`
    } netns ${namespace}`,
    `mtu=$(cat /sys/class/net/${uplink}/mtu)`,
    `ip link set g-${name} mtu $mtu master br-guests up`,
    `ip -n ${namespace} link set lo up`,
    `ip -n ${namespace} link set eth0 mtu $mtu up`,
    `ip -n ${namespace} address add ${address} dev eth0`,
  ];
  const result = await lab.exec(host, ["sh", "-eu", "-c", lines.join("\n")]);
  if (result.code !== 0) {
    throw new Error(`Cannot add the guest ${name} to ${host}: ${result.stderr}; expected a bridge`);
  }
  return lab.network(host, namespace);
}
