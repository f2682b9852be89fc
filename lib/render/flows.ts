/**
 * The switch's flows, groups and meters as one text: known unicast goes straight to its host, through
 * a third one where that path is dead, everything else by the tree. Pure.
 *
 * Each line begins with `meter`, `group` or `flow`; the rest is in ovs-ofctl's own notation (ovs-fields(7), ovs-actions(7)).
 * Where all of it is lost, the bridge falls back to its default flow, NORMAL, and so to the plain tree.
 */
import { hostAddresses, hostMac } from "../address.ts";
import type { Capabilities } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { directPort, LINK, meshIds, relayedAt, relaysAt, treePort } from "../net/network.ts";
import { oncePer } from "../remember.ts";
import { HEADER } from "./header.ts";
import { joinPieces, type Pieces, withPieces } from "./pieces.ts";

/**
 * Tables: where a frame comes from; who has its destination (learned); whose path is held back (run-paths); what is for this host;
 * which way it leaves; into the tree, past what the switch has learned of it; who has sent what is to be taken on; who has sent before
 * from this host (learned); the frames of those who have, and of those who have not; whose MAC tells where it is.
 */
const TABLE = {
  origin: 0,
  known: 1,
  held: 2,
  local: 3,
  out: 4,
  tree: 5,
  sender: 6,
  familiar: 7,
  admit: 8,
  native: 9,
} as const;

/** Seconds after which an address that was not heard again is forgotten; the same as in the switch's own table. */
const AGING = 300;
/** Seconds of silence after which an address counts as a stranger again: what a flood has left makes room soon. */
const FAMILIAR_AGING = 30;
/** Addresses that are remembered of one host: a flood of them cannot push out those of others. */
const LEARN_LIMIT = 4096;
/** Marks the entry of frames that bear no origin: they come from a host that has lost its flows. */
const UNKNOWN_ORIGIN = 0x10000;
const FLOOD_METER = 1;
const STRANGER_METER = 2;
/**
 * Frames per second from addresses that this host has not sent from before. Each costs every switch on its way a look at all flows;
 * ten thousands of them would keep those from hearing each other's BFD.
 */
const STRANGERS = 1000;
/** Above the hosts' own ids: groups of paths that are held back, and of those that are served for others. */
const GROUP = { held: 0x8000, relay: 0x10000 } as const;
/** Added to the id of the host that a third one is to take a frame to; from there on the frame bears its origin again. */
const RELAYED = 0x8000;
/** Bridges do not forward these (IEEE 802.1Q, table 8-1); a VM's BPDUs have no business in our tree. */
const LINK_LOCAL = "01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0";
/** The addresses that `hostMac` gives. */
const OUR_MACS = "02:6d:6f:00:00:00/ff:ff:ff:00:00:00";
/**
 * What each host has itself never moves, so nobody needs to learn it: a switch that has just begun anew finds the other hosts before the
 * tree is there to flood over.
 */
const NATIVES = ["gateway", "veth_fac0"] as const;
/** In place of a VLAN's number (ovs-fields(7), dl_vlan). */
const UNTAGGED = "0xffff";
/** A tunnel without BFD has no link that could go down; LOCAL, whose link neither does, cannot be watched. */
const ALWAYS_LIVE = LINK.relay;
const BROADCAST = "ff:ff:ff:ff:ff:ff";
const MULTICAST = "01:00:00:00:00:00/01:00:00:00:00:00";

/** The text for one host; in a fleet that switches by the tree alone, the one flow that every bridge has to begin with. */
export function renderFlows(config: HostConfig, capabilities: Capabilities): string {
  return `${HEADER}\n${config.switching.mode === "tree" ? NORMAL_FLOW : directFlows(config, capabilities)}`;
}

const NORMAL_FLOW = `flow table=${TABLE.origin},priority=0,actions=NORMAL\n`;

/**
 * What the flows of all hosts of a fleet have in common: nearly all of their megabytes. Each text has a piece for each host that has a
 * key; a host's own flows lack its own piece.
 */
interface FleetFlows {
  readonly ids: readonly number[];
  readonly groups: Pieces;
  readonly frames: Pieces;
  readonly outputs: Pieces;
}

const fleetFlows = oncePer((hosts: HostConfig["hosts"]): FleetFlows => {
  const ids = meshIds(hosts);
  const blank = new Set(hosts.flatMap(({ id, access }) => access === "none" ? [id] : []));
  return {
    ids,
    groups: joinPieces(ids.map((peer, place) => lines(groupLines(peer, relaysAt(place, ids))))),
    frames: joinPieces(
      ids.map((peer) => lines([...peerLines(peer), ...arpLines(peer, { blank: blank.has(peer) })])),
    ),
    outputs: joinPieces(ids.map((peer) => `,${output(treePort(peer))}`)),
  };
});

/** The groups towards all peers of the host at index `place`. It is no relay for itself: towards some peers it has other relays. */
function groupsAt(place: number, { ids, groups }: FleetFlows): string {
  const peers = ids.toSpliced(place, 1);
  const others = relayedAt(place, ids.length).map((other): [number, string] => {
    const relays = relaysAt(other < place ? other : other - 1, peers);
    return [other, lines(groupLines(ids[other]!, relays))];
  });
  return withPieces(groups, [...others, [place, ""] as const].sort(([a], [b]) => a - b));
}

function directFlows(config: HostConfig, { datapath }: Capabilities): string {
  const { self, switching } = config;
  const fleet = fleetFlows(config.hosts);
  const place = fleet.ids.indexOf(self);
  // A host that has no key yet has no piece.
  const withoutSelf = (pieces: Pieces) => place < 0 ? pieces.text : withPieces(pieces, [[place, ""]]);
  const outputs = withoutSelf(fleet.outputs).slice(1);
  const access = LINK.accessPort;
  const gateway = datapath === "netdev" ? LINK.gatewayPort : "LOCAL";
  const rate = switching.floodLimit;
  return lines([meter(FLOOD_METER, rate), meter(STRANGER_METER, STRANGERS)]) +
    (place < 0 ? fleet.groups.text : groupsAt(place, fleet)) +
    lines([
      ...[access, gateway].map((port) =>
        flow(TABLE.origin, 30, `in_port=${port},dl_dst=${LINK_LOCAL}`, ["drop"])
      ),
      flow(TABLE.origin, 20, `in_port=${gateway}`, localActions(self)),
      flow(TABLE.origin, 20, `in_port=${access}`, [
        `resubmit(,${TABLE.familiar})`,
        `resubmit(,${TABLE.admit})`,
      ]),
      flow(TABLE.admit, 5, "reg4=1", [learnFamiliar(self), ...localActions(self)]),
      flow(TABLE.admit, 0, "", [`meter:${STRANGER_METER}`, learnFamiliar(self), ...localActions(self)]),
      // A loop of the user's own brings frames of other hosts and gateways back: they do not live behind this host's link.
      flow(TABLE.origin, 26, `in_port=${access},dl_src=${hostMac(self, "veth_fac0")}`, localActions(self)),
      flow(TABLE.origin, 25, `in_port=${access},dl_src=${OUR_MACS}`, ["drop"]),
    ]) +
    withoutSelf(fleet.frames) +
    lines([
      flow(TABLE.origin, 15, `in_port=${LINK.relay}`, ["drop"]),
      ...outputs === "" ? [] : [flow(TABLE.tree, 0, "", [outputs])],
      // What this host has sent came back by a loop: to learn from it would turn the traffic of its own gateway and VMs away from them.
      flow(TABLE.origin, 12, `tun_id=${self}`, ["drop"]),
      // Without an origin nobody can be answered on a direct path.
      flow(TABLE.origin, 0, "", [learn(UNKNOWN_ORIGIN, 0), "NORMAL"]),
      flow(TABLE.local, 10, `dl_dst=${hostMac(self, "gateway")}`, [output(gateway)]),
      flow(TABLE.local, 5, `dl_dst=${MULTICAST}`, [output(gateway), output(access)]),
      flow(TABLE.local, 0, "", [output(access)]),
      flow(TABLE.out, 5, "reg2=1", ["NORMAL"]),
      flow(TABLE.out, 0, "", [`meter:${FLOOD_METER}`, "NORMAL"]),
    ]);
}

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join("");
}

/**
 * To a peer: the direct path as long as BFD says it lives, else through a third host, else by the tree; the same without the direct path;
 * and, as the third host, for others.
 */
function groupLines(peer: number, relays: readonly number[]): string[] {
  const direct = bucket(directPort(peer), [output(directPort(peer))]);
  const detours = [
    ...relays.map((relay) =>
      bucket(directPort(relay), [`set_field:${RELAYED + peer}->tun_id`, tunnelTo(relay), output(LINK.relay)])
    ),
    bucket(ALWAYS_LIVE, ["NORMAL"]),
  ];
  return [
    group(peer, [direct, ...detours]),
    group(GROUP.held + peer, detours),
    group(GROUP.relay + peer, [
      bucket(directPort(peer), [tunnelTo(peer), "in_port"]),
      bucket(ALWAYS_LIVE, [`resubmit(,${TABLE.tree})`]),
    ]),
  ];
}

function meter(number: number, rate: number): string {
  return `meter meter=${number},pktps,burst,bands=type=drop,rate=${rate},burst_size=${rate}`;
}

function tunnelTo(host: number): string {
  return `set_field:${hostAddresses(host).tunnel}->tun_dst`;
}

function group(id: number, buckets: readonly string[]): string {
  return `group group_id=${id},type=ff,${buckets.join(",")}`;
}

function bucket(watchPort: string, actions: readonly string[]): string {
  return `bucket=watch_port:${watchPort},actions=${actions.join(",")}`;
}

/** Frames of this host's own: stamped with their origin, which transit hosts keep. */
function localActions(self: number): string[] {
  return [
    learn(self, 0),
    `set_field:${self}->tun_id`,
    `resubmit(,${TABLE.native})`,
    `resubmit(,${TABLE.known})`,
    `resubmit(,${TABLE.held})`,
    `resubmit(,${TABLE.out})`,
  ];
}

/** Frames of a peer: what came directly is for this host and never forwarded again, so there is no loop. */
function peerLines(peer: number): string[] {
  return [
    flow(TABLE.origin, 20, `in_port=${directPort(peer)}`, [learn(peer, peer), `resubmit(,${TABLE.local})`]),
    flow(TABLE.origin, 10, `tun_id=${peer}`, [learn(peer, peer), "NORMAL"]),
    flow(TABLE.origin, 20, `in_port=${LINK.relay},tun_id=${peer}`, [
      learn(peer, peer),
      `resubmit(,${TABLE.local})`,
    ]),
    flow(TABLE.origin, 20, `in_port=${LINK.relay},tun_id=${RELAYED + peer}`, [
      `resubmit(,${TABLE.sender})`,
      `group:${GROUP.relay + peer}`,
    ]),
    flow(TABLE.sender, 10, `tun_src=${hostAddresses(peer).tunnel}`, [`set_field:${peer}->tun_id`]),
    ...NATIVES.map((role) =>
      flow(TABLE.native, 10, `dl_vlan=${UNTAGGED},dl_dst=${hostMac(peer, role)}`, [knownAt(peer)])
    ),
    flow(TABLE.out, 15, `reg1=${peer},reg3=1`, [`group:${GROUP.held + peer}`]),
    flow(TABLE.out, 10, `reg1=${peer}`, [`group:${peer}`]),
  ];
}

/**
 * Who asks for the address of a peer's gateway, or of the peer itself, asks that peer alone: its MAC is known. Such an answer does not
 * depend on the tree, which needs up to a second to settle; and who asks again does so a second later.
 */
function arpLines(peer: number, { blank }: { readonly blank: boolean }): string[] {
  const { gateway, access } = hostAddresses(peer);
  const addresses = [["gateway", gateway], ...blank ? [] : [["veth_fac0", access]] as const] as const;
  return addresses.map(([role, address]) =>
    flow(TABLE.native, 20, `arp,arp_op=1,dl_vlan=${UNTAGGED},dl_dst=${BROADCAST},arp_tpa=${address}`, [
      `set_field:${hostMac(peer, role)}->eth_dst`,
      knownAt(peer),
    ])
  );
}

/** Remembers that the source has sent from this host. */
function learnFamiliar(self: number): string {
  return `learn(table=${TABLE.familiar},idle_timeout=${FAMILIAR_AGING},priority=10,cookie=${self},limit=${LEARN_LIMIT},` +
    "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_SRC[],load:1->NXM_NX_REG4[0])";
}

/** Remembers where the source is: `reg1` the host on whose direct path it is, 0 for none; `reg2` that it is known at all. */
function learn(cookie: number, host: number): string {
  return `learn(table=${TABLE.known},hard_timeout=${AGING},priority=10,cookie=${cookie},limit=${LEARN_LIMIT},` +
    "NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]," +
    `${knownAt(host)})`;
}

function knownAt(host: number): string {
  return `load:${host}->NXM_NX_REG1[0..15],load:1->NXM_NX_REG2[0]`;
}

function flow(table: number, priority: number, match: string, actions: readonly string[]): string {
  return `flow table=${table},priority=${priority},${match === "" ? "" : `${match},`}actions=${
    actions.join(",")
  }`;
}

function output(port: string): string {
  return port === "LOCAL" ? port : `output:${port}`;
}
