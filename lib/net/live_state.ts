/**
 * What only the host itself can tell of its network's health: WireGuard's peers, the tree, watched paths, the way out. One read-only
 * script and the parser of what it says. Pure.
 */
import { directPort, EGRESS, LINK, relaysOf } from "./network.ts";
import { type DumpedPeer, OFCTL, parseWireguardDump, SWITCH_CONTROL, TELL_WIREGUARD } from "./seen.ts";

/** What `wg` says of the gateway's device. */
export interface WireguardState {
  readonly publicKey: string;
  readonly peers: readonly DumpedPeer[];
}

/** What Open vSwitch says of the tree (RSTP). */
export interface TreeState {
  /** Identifiers, `<priority>.<MAC>`. */
  readonly root: string;
  readonly bridge: string;
  readonly ports: readonly TreePortState[];
}

/** One port that takes part in the tree; role and state in Open vSwitch's words. */
export interface TreePortState {
  readonly name: string;
  readonly role: string;
  readonly state: string;
}

/** One path that Open vSwitch watches. */
export interface PathState {
  readonly name: string;
  readonly up: boolean;
  /** It died twice within a short time, and is not used for a while. */
  readonly held?: boolean;
  /** Id of the third host that takes the pair's frames meanwhile; missing where none does. */
  readonly over?: number;
}

/** What the script saw. */
export interface LiveState {
  readonly wireguard?: WireguardState;
  readonly tree?: TreeState;
  readonly paths: readonly PathState[];
  /** Gateway of another host by which default traffic leaves meanwhile. */
  readonly egress?: string;
  /** What is wrong on the way out; empty where nothing is, or nobody asked. */
  readonly wayOut: readonly string[];
}

/** The script, for the gateway's namespace; the next hop is only asked for where the way out is of interest. */
export function liveStateScript({ wayOut }: { readonly wayOut: boolean }): string {
  return `
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH LC_ALL=C
${TELL_WIREGUARD}
appctl="ovs-appctl --timeout=5 -t ${SWITCH_CONTROL}"
echo "@@tree"; $appctl rstp/show ${LINK.switch} 2>/dev/null
echo "@@paths"; $appctl bfd/show 2>/dev/null
echo "@@held"; ${OFCTL("dump-flows", "table=2")} 2>/dev/null
${wayOut ? WAY_OUT : ""}exit 0
`;
}

/** A router may keep silent when it is pinged, but must say which MAC it has. */
const WAY_OUT = `told=$(ip -4 route show default table all)
echo "@@routes"; echo "$told"
hop=
IFS='
'
for line in $told; do
  case $line in *' table '*) ;; 'default via '*) hop=\${line#default via }; hop=\${hop%% *}; break ;; esac
done
unset IFS
if [ -n "$hop" ]; then
  ping -n -q -c 1 -W 1 "$hop" >/dev/null 2>&1
  echo "@@hop $hop"; ip -4 neigh show to "$hop"
fi
`;

/** Parses the script's output. */
export function parseLiveState(output: string, { wayOut }: { readonly wayOut: boolean }): LiveState {
  const sections = new Map(
    output.split(/^@@/m).slice(1).map((part) => {
      const end = part.indexOf("\n");
      return [part.slice(0, end), part.slice(end + 1)] as const;
    }),
  );
  const wireguard = parseWireguardState(sections);
  const tree = parseTree(sections.get("tree") ?? "");
  const egress = new RegExp(`^default via (\\S+).* table ${EGRESS.table}( |$)`, "m")
    .exec(sections.get("routes") ?? "")?.[1];
  return {
    ...(wireguard ? { wireguard } : {}),
    ...(tree ? { tree } : {}),
    paths: parsePaths(sections.get("paths") ?? "", sections.get("held")),
    ...(egress ? { egress } : {}),
    wayOut: wayOut ? [...egress ? ["its own way out is lost"] : [], ...parseWayOut(sections)] : [],
  };
}

type Sections = ReadonlyMap<string, string>;

function parseWireguardState(sections: Sections): WireguardState | undefined {
  const { publicKey, peers } = parseWireguardDump(sections.get("wireguard") ?? "");
  if (publicKey === "" || publicKey === "(none)") return undefined;
  return {
    publicKey,
    peers: peers.map(({ publicKey, endpoint, allowedIps, handshake, received, sent }) => ({
      publicKey,
      ...(endpoint ? { endpoint } : {}),
      allowedIps,
      handshake,
      received,
      sent,
    })),
  };
}

/** ovs-appctl(8), rstp/show: "Root ID:" and "Bridge ID:" with priority and system id, then a table of ports. */
export function parseTree(text: string): TreeState | undefined {
  const [root, bridge] = ["Root", "Bridge"].map((whose) => {
    const match = new RegExp(`^${whose} ID:\\s+stp-priority\\s+(\\d+)\\s+stp-system-id\\s+([0-9a-f:]+)`, "m")
      .exec(text);
    return match ? `${match[1]}.${match[2]}` : undefined;
  });
  if (root === undefined || bridge === undefined) return undefined;
  const table = text.slice(text.lastIndexOf("----------"));
  const ports = [...table.matchAll(/^ +(\S+) +([A-Z]\w+) +([A-Z]\w+) +\d+ +[\d.]+ *$/gm)].map(
    ([, name = "", role = "", state = ""]): TreePortState => ({ name, role, state }),
  );
  return { root, bridge, ports };
}

/**
 * ovs-appctl(8), bfd/show: "---- <interface> ----", then "<what>: <value>" on indented lines; `held` are the flows of those who are held
 * back. A direct path that is not used has its third host: the first one that the switch's group would take.
 */
export function parsePaths(text: string, held = ""): PathState[] {
  const seen = text.split(/^---- /m).slice(1).map((part) => ({
    name: part.slice(0, part.indexOf(" ")),
    up: /^\s*Local Session State: up$/m.test(part) && /^\s*Forwarding: true/m.test(part),
  }));
  const live = new Map(seen.map(({ name, up }) => [name, up]));
  const peers = seen.flatMap(({ name }) => peerOf(name) ?? []).sort((a, b) => a - b);
  const heldBack = new Set([...held.matchAll(/reg1=(0x[0-9a-f]+|\d+)/g)].map(([, id]) => Number(id)));
  return seen.map(({ name, up }) => {
    const peer = peerOf(name);
    if (peer === undefined || (up && !heldBack.has(peer))) return { name, up };
    const over = relaysOf(peer, peers).find((relay) => live.get(directPort(relay)));
    return {
      name,
      up,
      ...(heldBack.has(peer) ? { held: true } : {}),
      ...(over === undefined ? {} : { over }),
    };
  });
}

/** The peer at the other end of a direct path. */
function peerOf(name: string): number | undefined {
  const id = Number(/-(\d+)$/.exec(name)?.[1]);
  return name === directPort(id) ? id : undefined;
}

function parseWayOut(sections: Sections): string[] {
  const routes = (sections.get("routes") ?? "").split("\n").filter((line) => !/^$| table /.test(line));
  if (routes.length === 0) return ["the gateway has no default route"];
  return [...sections].filter(([name]) => name.startsWith("hop "))
    .filter(([, text]) => !/ lladdr /.test(text) || /FAILED|INCOMPLETE/.test(text))
    .map(([name]) => `the gateway's next hop ${name.slice(4)} does not answer`);
}
