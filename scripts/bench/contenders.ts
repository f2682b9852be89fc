/**
 * What is compared: networks between the same machines. Sets up those that are not mobula's; all lie idle until they are measured.
 */
import { GENEVE_PORT, hostAddresses, innerMtus } from "../../lib/address.ts";
import { generateKeyPair } from "../../lib/keys.ts";
import { SWITCH_DB } from "../../lib/net/seen.ts";
import type { Guest } from "./guests.ts";
import { SECOND_NIC, THIRD_NIC } from "./nics.ts";

/** One network, or one path through it. */
export interface Contender {
  readonly name: string;
  readonly title: string;
  /** Sender and receiver, by place among the machines: the first is the tree's root. */
  readonly pair: readonly [number, number];
  /** Under which the machine of this id is reached there. */
  readonly address: (id: number) => string;
  /** Bytes of its largest packet. */
  readonly mtu: number;
  /** Makes it on the machines; without it, it is there. */
  readonly setUp?: (guests: readonly Guest[]) => Promise<void>;
}

const UNDERLAY_MTU = 1500;
const MTU = innerMtus(UNDERLAY_MTU);
/** Fits the others' frames into one packet of the underlay. */
const OTHERS_MTU = 1400;

const LEAF_TO_ROOT = [1, 0] as const;
const LEAF_TO_LEAF = [1, 2] as const;

/** All contenders; those that are compared with each other lie side by side, so that they are measured soon after each other. */
export const CONTENDERS: readonly Contender[] = [
  {
    name: "raw",
    title: "underlay, nothing in between",
    pair: LEAF_TO_ROOT,
    address: (id) => `${SECOND_NIC.network}.${id}`,
    mtu: UNDERLAY_MTU,
  },
  {
    name: "wireguard",
    title: "plain kernel WireGuard",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.0.${id}`,
    mtu: MTU.wireguard,
    setUp: setUpWireguard,
  },
  {
    name: "behind",
    title: "plain WireGuard in a namespace",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.4.${id}`,
    mtu: MTU.wireguard,
    setUp: setUpBehind,
  },
  {
    name: "intrawire",
    title: "mobula, intrawire",
    pair: LEAF_TO_ROOT,
    address: (id) => hostAddresses(id).intrawire,
    mtu: MTU.wireguard,
  },
  {
    name: "geneve",
    title: "plain geneve over plain WireGuard",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.5.${id}`,
    mtu: MTU.access,
    setUp: setUpGeneve,
  },
  {
    name: "switched",
    title: "Open vSwitch alone, laid out as mobula's",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.6.${id}`,
    mtu: MTU.access,
    setUp: setUpSwitched,
  },
  {
    name: "access",
    title: "mobula, access, root and leaf",
    pair: LEAF_TO_ROOT,
    address: (id) => hostAddresses(id).access,
    mtu: MTU.access,
  },
  {
    name: "access-leaves",
    title: "mobula, access, two leaves",
    pair: LEAF_TO_LEAF,
    address: (id) => hostAddresses(id).access,
    mtu: MTU.access,
  },
  {
    name: "tinc",
    title: "tinc, switch mode",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.1.${id}`,
    mtu: OTHERS_MTU,
    setUp: setUpTinc,
  },
  {
    name: "fastd",
    title: "fastd, tap, salsa2012+umac",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.2.${id}`,
    mtu: OTHERS_MTU,
    setUp: setUpFastd,
  },
  {
    name: "nebula",
    title: "nebula",
    pair: LEAF_TO_ROOT,
    address: (id) => `10.99.3.${id}`,
    mtu: OTHERS_MTU,
    setUp: setUpNebula,
  },
];

/** The two machines that the others run on; the third stays idle. */
function twoOf(guests: readonly Guest[]): readonly [Guest, Guest] {
  const [root, leaf] = guests;
  if (!root || !leaf) {
    throw new Error(`Cannot compare networks: ${guests.length} machines; expected two or more`);
  }
  return [root, leaf];
}

const WRITE_FILE = 'umask 077; mkdir -p "${1%/*}"; cat >"$1"';

async function writeFile(guest: Guest, path: string, text: string): Promise<void> {
  await guest.sh(WRITE_FILE, { args: [path], stdin: text });
}

/** A daemon that systemd ends with the machine. */
const START_DAEMON = 'unit=$1; shift; systemd-run --quiet --unit="bench-$unit" "$@"';
/** Waits for the daemon's device. */
const SET_ADDRESS = `
for _ in $(seq 300); do ip link show "$1" >/dev/null 2>&1 && break; sleep 0.1; done
ip link set "$1" mtu "$3" up
ip address replace "$2/24" dev "$1"
`;

/** As wg-quick makes it, but with the MTU that mobula uses: a larger one would be to its advantage. */
async function setUpWireguard(guests: readonly Guest[]): Promise<void> {
  const ends = await wireguardEnds(guests, { network: "10.99.0", port: 51999 });
  await Promise.all(ends.map(async ({ guest, config }) => {
    await guest.sh("ip link add bench-wg type wireguard; wg setconf bench-wg /dev/stdin", { stdin: config });
    await guest.sh(SET_ADDRESS, { args: ["bench-wg", `10.99.0.${guest.id}`, String(MTU.wireguard)] });
  }));
}

/** Two ends that know each other, each with what `wg setconf` takes; the underlay is the second card's network unless told. */
async function wireguardEnds(
  guests: readonly Guest[],
  { network, port, underlay }: { network: string; port: number; underlay?: string },
): Promise<readonly { guest: Guest; config: string }[]> {
  const ends = await Promise.all(
    twoOf(guests).map(async (guest) => ({ guest, keys: await generateKeyPair() })),
  );
  return ends.map(({ guest, keys }) => {
    const peer = ends.find((end) => end.guest !== guest)!;
    const endpoint = underlay === undefined ? peer.guest.address : `${underlay}.${peer.guest.id}`;
    const lines = [
      "[Interface]",
      `PrivateKey = ${keys.privateKey.reveal()}`,
      `ListenPort = ${port}`,
      "[Peer]",
      `PublicKey = ${peer.keys.publicKey}`,
      `Endpoint = ${endpoint}:${port}`,
      `AllowedIPs = ${network}.${peer.guest.id}/32`,
    ];
    return { guest, config: lines.join("\n") + "\n" };
  });
}

const BEHIND = `
nic=$1 outside=$2 inside=$3 mtu=$4
ip netns add bench
ip link set "$nic" netns bench
ip -n bench link add outside type bridge
ip -n bench link set "$nic" master outside up
ip -n bench link set outside up
ip -n bench address add "$outside/24" dev outside
ip link add bench-hs mtu "$mtu" type veth peer name bench-gw mtu "$mtu" netns bench
ip -n bench link set bench-gw up
ip address add "$inside/32" dev bench-hs
ip link set bench-hs up
ip netns exec bench sysctl -q net.ipv4.ip_forward=1 net.ipv4.conf.bench-gw.proxy_arp=1
ip -n bench route add "$inside/32" dev bench-gw
ip route add 10.99.4.0/24 dev bench-hs src "$inside"
ip -n bench link add bench-wg mtu "$mtu" type wireguard
ip netns exec bench wg setconf bench-wg /dev/stdin
ip -n bench link set bench-wg up
ip -n bench route add 10.99.4.0/24 dev bench-wg
`;

/** Where mobula has it: its card in a bridge, a veth pair to the host, and nothing else, no packet filter above all. */
async function setUpBehind(guests: readonly Guest[]): Promise<void> {
  const { name, network } = THIRD_NIC;
  const ends = await wireguardEnds(guests, { network: "10.99.4", port: 51998, underlay: network });
  await Promise.all(ends.map(({ guest, config }) => {
    const args = [name, `${network}.${guest.id}`, `10.99.4.${guest.id}`, String(MTU.wireguard)];
    return guest.sh(BEHIND, { args, stdin: config });
  }));
}

const GENEVE = 'ip link add bench-geneve type geneve id 1 remote "$1"';

/** Ethernet in plain WireGuard without any switch; needs `setUpWireguard`. */
async function setUpGeneve(guests: readonly Guest[]): Promise<void> {
  const ends = twoOf(guests);
  await Promise.all(ends.map(async (guest) => {
    const peer = ends.find((end) => end !== guest)!;
    await guest.sh(GENEVE, { args: [`10.99.0.${peer.id}`] });
    await guest.sh(SET_ADDRESS, { args: ["bench-geneve", `10.99.5.${guest.id}`, String(MTU.access)] });
  }));
}

/** Not a key of mobula's tunnels, which are between the same addresses and ports. */
const SWITCHED_KEY = 0x62656e;
const SWITCHED = `
from=$1 to=$2 address=$3 mtu=$4
ip link add bench-ac mtu "$mtu" type veth peer name bench-sw mtu "$mtu" netns mobula
ip -n mobula link set bench-sw up
ip address add "$address/24" dev bench-ac
ip link set bench-ac up
ovs-vsctl --db=${SWITCH_DB} --timeout=60 add-br bench -- add-port bench bench-sw -- add-port bench bench-gv -- \\
  set interface bench-gv type=geneve options:local_ip="$from" options:remote_ip="$to" \\
  options:dst_port=${GENEVE_PORT} options:key=${SWITCHED_KEY}
`;

/** Beside mobula's bridge in mobula's switch one that knows nothing but to learn: what remains is what the layout costs. */
async function setUpSwitched(guests: readonly Guest[]): Promise<void> {
  const ends = twoOf(guests);
  await Promise.all(ends.map(async (guest) => {
    const peer = ends.find((end) => end !== guest)!;
    const [from, to] = [guest, peer].map(({ id }) => hostAddresses(id).tunnel) as [string, string];
    await guest.sh(SWITCHED, { args: [from, to, `10.99.6.${guest.id}`, String(MTU.access)] });
  }));
}

const TINC_KEY = 'cd /etc/tinc/bench; tincd -n bench -K1024 </dev/null >&2; cat "hosts/$1"';

async function setUpTinc(guests: readonly Guest[]): Promise<void> {
  const [root, leaf] = twoOf(guests);
  const ends = await Promise.all([root, leaf].map(async (guest) => {
    const { name, address } = guest;
    const common = `Name = ${name}\nMode = switch\nInterface = bench-tinc\nBindToAddress = ${address}\n`;
    const folder = "/etc/tinc/bench";
    await writeFile(
      guest,
      `${folder}/tinc.conf`,
      common + (guest === leaf ? `ConnectTo = ${root.name}\n` : ""),
    );
    await writeFile(guest, `${folder}/hosts/${name}`, `Address = ${address}\n`);
    return { guest, card: await guest.sh(TINC_KEY, { args: [name] }) };
  }));
  await Promise.all(ends.map(async ({ guest }) => {
    for (const { guest: peer, card } of ends) {
      await writeFile(guest, `/etc/tinc/bench/hosts/${peer.name}`, card);
    }
    await guest.sh(START_DAEMON, { args: ["tinc", "tincd", "-n", "bench", "-D"] });
    await guest.sh(SET_ADDRESS, { args: ["bench-tinc", `10.99.1.${guest.id}`, String(OTHERS_MTU)] });
  }));
}

const FASTD_KEY = "fastd --generate-key 2>/dev/null";

async function setUpFastd(guests: readonly Guest[]): Promise<void> {
  const ends = await Promise.all(
    twoOf(guests).map(async (guest) => {
      const said = await guest.sh(FASTD_KEY);
      const key = (kind: string) => new RegExp(`${kind}: ([0-9a-f]{64})`, "i").exec(said)?.[1] ?? "";
      return { guest, secret: key("secret"), public: key("public") };
    }),
  );
  await Promise.all(ends.map(async ({ guest, secret }) => {
    const peer = ends.find((end) => end.guest !== guest);
    const lines = [
      'interface "bench-fastd";',
      "mode tap;",
      `mtu ${OTHERS_MTU};`,
      'method "salsa2012+umac";',
      `bind ${guest.address}:10000;`,
      `secret "${secret}";`,
      `peer "${peer?.guest.name}" { key "${peer?.public}"; remote ipv4 "${peer?.guest.address}" port 10000; }`,
    ];
    await writeFile(guest, "/etc/fastd/bench/fastd.conf", lines.join("\n") + "\n");
    await guest.sh(START_DAEMON, { args: ["fastd", "fastd", "--config", "/etc/fastd/bench/fastd.conf"] });
    await guest.sh(SET_ADDRESS, { args: ["bench-fastd", `10.99.2.${guest.id}`, String(OTHERS_MTU)] });
  }));
}

const NEBULA_FOLDER = "/etc/nebula/bench";
const NEBULA_CA = `umask 077; mkdir -p ${NEBULA_FOLDER}; cd ${NEBULA_FOLDER}; nebula-cert ca -name bench`;
const NEBULA_SIGN = `cd ${NEBULA_FOLDER}; nebula-cert sign -name "$1" -ip "$2/24"`;
const NEBULA_GIVE = `cd ${NEBULA_FOLDER}; cat "$1"`;

async function setUpNebula(guests: readonly Guest[]): Promise<void> {
  const [root, leaf] = twoOf(guests);
  await root.sh(NEBULA_CA);
  for (const { name, id } of [root, leaf]) await root.sh(NEBULA_SIGN, { args: [name, `10.99.3.${id}`] });
  for (const file of ["ca.crt", `${leaf.name}.crt`, `${leaf.name}.key`]) {
    await writeFile(leaf, `${NEBULA_FOLDER}/${file}`, await root.sh(NEBULA_GIVE, { args: [file] }));
  }
  await Promise.all([root, leaf].map(async (guest) => {
    await writeFile(guest, `${NEBULA_FOLDER}/config.yml`, nebulaConfig(guest, root));
    await guest.sh(START_DAEMON, { args: ["nebula", "nebula", "-config", `${NEBULA_FOLDER}/config.yml`] });
  }));
}

/** The allow lists keep it from finding a way through the other networks. */
function nebulaConfig(guest: Guest, root: Guest): string {
  const lighthouse = `10.99.3.${root.id}`;
  const onlyNic = { [`${SECOND_NIC.network}.0/24`]: true };
  const any = [{ port: "any", proto: "any", host: "any" }];
  return JSON.stringify({
    pki: {
      ca: `${NEBULA_FOLDER}/ca.crt`,
      cert: `${NEBULA_FOLDER}/${guest.name}.crt`,
      key: `${NEBULA_FOLDER}/${guest.name}.key`,
    },
    static_host_map: { [lighthouse]: [`${root.address}:4242`] },
    lighthouse: {
      am_lighthouse: guest === root,
      hosts: guest === root ? [] : [lighthouse],
      local_allow_list: onlyNic,
      remote_allow_list: onlyNic,
    },
    listen: { host: guest.address, port: 4242 },
    tun: { dev: "bench-nebula", mtu: OTHERS_MTU },
    firewall: { outbound: any, inbound: any },
  });
}
