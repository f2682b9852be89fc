import { assertEquals } from "@std/assert";
import { parseLiveState, parsePaths, parseTree } from "../../lib/net/live_state.ts";

/** As Open vSwitch 3.5 and 3.1 say it. */
const ROOT = `---- ovsbr-mobula ----
Root ID:
  stp-priority    32768
  stp-system-id   02:6d:6f:00:02:0c
  stp-hello-time  2s
  stp-max-age     20s
  stp-fwd-delay   15s
  This bridge is the root

Bridge ID:
  stp-priority    32768
  stp-system-id   02:6d:6f:00:02:0c
  stp-hello-time  2s
  stp-max-age     20s
  stp-fwd-delay   15s

  Interface  Role       State      Cost     Pri.Nbr 
  ---------- ---------- ---------- -------- -------
  mo-t-4  Designated Forwarding 2000     128.1
  mo-t-3  Designated Forwarding 2000     128.2

`;
const OTHER = ROOT.replace(
  "  This bridge is the root\n",
  "  root-port       mo-t-2\n  root-path-cost  2000\n",
)
  .replace(/(Bridge ID:[^]*?)00:02:0c/, "$100:03:0c")
  .replace("mo-t-3  Designated", "mo-t-2  Root      ").replace(
    "mo-t-4  Designated Forwarding",
    "mo-t-4  Alternate  Discarding",
  );

Deno.test("parseTree: root, bridge, and the ports with role and state", () => {
  assertEquals(parseTree(ROOT), {
    root: "32768.02:6d:6f:00:02:0c",
    bridge: "32768.02:6d:6f:00:02:0c",
    ports: [
      { name: "mo-t-4", role: "Designated", state: "Forwarding" },
      { name: "mo-t-3", role: "Designated", state: "Forwarding" },
    ],
  });
  assertEquals(parseTree(OTHER), {
    root: "32768.02:6d:6f:00:02:0c",
    bridge: "32768.02:6d:6f:00:03:0c",
    ports: [
      { name: "mo-t-4", role: "Alternate", state: "Discarding" },
      { name: "mo-t-2", role: "Root", state: "Forwarding" },
    ],
  });
});

Deno.test("parseTree: no switch, no tree; a bridge of one host has no ports", () => {
  assertEquals(parseTree(""), undefined);
  const alone = ROOT.split("\n").filter((line) => !line.includes("mo-t-")).join("\n");
  assertEquals(parseTree(alone)?.ports, []);
});

Deno.test("parsePaths: up is a session that is up and forwards", () => {
  const bfd = (name: string, forwarding: boolean, state: string) =>
    `---- ${name} ----\n\tForwarding: ${forwarding}\n\tDetect Multiplier: 3\n\tLocal Flags: none\n` +
    `\tLocal Session State: ${state}\n\tRemote Session State: up\n`;
  const text = bfd("mo-dp-2", true, "up") + bfd("mo-dp-3", false, "down") + bfd("mo-dp-4", false, "up");
  assertEquals(parsePaths(text), [
    { name: "mo-dp-2", up: true },
    { name: "mo-dp-3", up: false },
    { name: "mo-dp-4", up: false },
  ]);
  assertEquals(parsePaths(""), []);
});

const KEYS = ["own", "one", "two"].map((name) => `${name.padEnd(43, "A")}=`) as [string, string, string];
const OUTPUT = `@@wireguard
${KEYS[0]}\t51820\toff
${KEYS[1]}\t(none)\t198.51.100.3:51820\t10.30.0.3/32,169.254.0.3/32\t1795364328\t2212\t6348\toff
${KEYS[2]}\t(none)\t(none)\t(none)\t0\t0\t148\toff
@@tree
${ROOT}@@paths
`;

Deno.test("parseLiveState: WireGuard's peers with handshake and counters, the tree, no paths", () => {
  const { wireguard, tree, paths, wayOut } = parseLiveState(OUTPUT, { wayOut: false });
  assertEquals(wireguard, {
    publicKey: KEYS[0],
    peers: [
      {
        publicKey: KEYS[1],
        endpoint: "198.51.100.3:51820",
        allowedIps: ["10.30.0.3/32", "169.254.0.3/32"],
        handshake: 1795364328,
        received: 2212,
        sent: 6348,
      },
      { publicKey: KEYS[2], allowedIps: [], handshake: 0, received: 0, sent: 148 },
    ],
  });
  assertEquals([tree?.ports.length, paths, wayOut], [2, [], []]);
});

Deno.test("parseLiveState: a host without a device or a switch has none", () => {
  const nothing = "@@tree\n@@paths\n";
  assertEquals(parseLiveState(nothing, { wayOut: false }), { paths: [], wayOut: [] });
});

for (
  const [what, text, wrong] of [
    ["no default route", "@@routes\n", ["the gateway has no default route"]],
    [
      "a next hop that answers",
      "@@routes\ndefault via 192.0.2.1 dev mo-ext-gw \n@@hop 192.0.2.1\n192.0.2.1 dev mo-ext-gw lladdr 02:00:00:00:00:01 REACHABLE\n",
      [],
    ],
    [
      "a next hop that does not",
      "@@routes\ndefault via 192.0.2.1 dev mo-ext-gw \n@@hop 192.0.2.1\n192.0.2.1 dev mo-ext-gw FAILED\n",
      ["the gateway's next hop 192.0.2.1 does not answer"],
    ],
    ["a link without a next hop", "@@routes\ndefault dev ppp0 scope link \n", []],
  ] as const
) {
  Deno.test(`parseLiveState: the way out: ${what}`, () => {
    assertEquals(parseLiveState(text, { wayOut: true }).wayOut, [...wrong]);
  });
}

Deno.test("parsePaths: what is not used is carried by the first third host that is reached", () => {
  const bfd = (peer: number, up: boolean) =>
    ["mo-path", "mo-t"].map((kind) =>
      `---- ${kind}-${peer} ----\n\tForwarding: ${up}\n\tLocal Session State: ${up ? "up" : "down"}\n`
    ).join("");
  const held =
    " cookie=0x0, duration=2.1s, table=2, hard_timeout=10, priority=10,reg1=0x5 actions=load:0x1\n";
  assertEquals(parsePaths([bfd(5, true), bfd(2, true), bfd(3, false), bfd(4, false)].join(""), held), [
    { name: "mo-path-5", up: true, held: true, over: 2 },
    { name: "mo-t-5", up: true },
    { name: "mo-path-2", up: true },
    { name: "mo-t-2", up: true },
    { name: "mo-path-3", up: false, over: 5 },
    { name: "mo-t-3", up: false },
    { name: "mo-path-4", up: false, over: 5 },
    { name: "mo-t-4", up: false },
  ]);
  assertEquals(parsePaths(bfd(2, false)), [{ name: "mo-path-2", up: false }, { name: "mo-t-2", up: false }]);
});

Deno.test("parseLiveState: the way out: another host's gateway meanwhile", () => {
  const output =
    "@@routes\ndefault via 198.51.100.254 dev mo-ext-gw\ndefault via 10.31.0.3 dev ovsbr-mobula table 109 proto 109\n";
  const { egress, wayOut } = parseLiveState(output, { wayOut: true });
  assertEquals({ egress, wayOut }, { egress: "10.31.0.3", wayOut: ["its own way out is lost"] });
});
