/** What real hosts say when they are looked at, understood. */
import { assert, assertEquals } from "@std/assert";
import { LINK } from "../../lib/net/network.ts";
import { lookScript, parseModes, parseSeen } from "../../lib/net/seen.ts";
import { CAPTURED_HOSTS, readCaptured } from "./captured.ts";

const { wanted, text, files } = readCaptured("debian13");

for (const [name, id] of CAPTURED_HOSTS) {
  const capture = readCaptured(name);

  Deno.test(`parseSeen: links, routes and rules of ${name}`, () => {
    const { seen } = capture;
    assertEquals(seen.namespaces, ["mobula", "mobula-sw"]);
    const access = seen.links.find((link) => link.name === LINK.access);
    assertEquals(access, {
      scope: "root",
      name: "veth_fac0",
      mac: `02:6d:6f:00:0${id}:02`,
      mtu: 1386,
      up: true,
      kind: "veth",
      addresses: [`10.31.128.${id}/16`],
      txChecksum: false,
    });
    assertEquals(seen.links.find((link) => link.name === LINK.externalBridge)?.kind, "bridge");
    assertEquals(seen.links.find((link) => link.name === "host0")?.master, LINK.externalBridge);
    assertEquals(
      seen.routes.find(({ scope, table }) => scope === "root" && table === 10),
      {
        scope: "root",
        family: "inet",
        table: 10,
        destination: "default",
        device: LINK.intrawire,
        via: `10.31.0.${id}`,
        source: `10.30.0.${id}`,
        onlink: true,
        protocol: "boot",
      },
    );
    assertEquals(seen.rules, [
      { priority: 0, table: "local" },
      { priority: 10030, from: `10.30.0.${id}`, table: "10" },
      { priority: 10031, to: "10.30.0.0/16", table: "10" },
      { priority: 32766, table: "main" },
      { priority: 32767, table: "default" },
    ]);
    assert(seen.neighbours.length === 3 && seen.sysctls.length === 9);
  });

  Deno.test(`parseSeen: WireGuard, switch, firewall and units of ${name}`, () => {
    const { seen, wanted } = capture;
    assertEquals(seen.wireguard?.publicKey, wanted.wireguard.publicKey);
    assertEquals(seen.wireguard?.listenPort, 51820);
    assertEquals(
      seen.wireguard?.peers,
      new Map(wanted.wireguard.peers.map(({ publicKey, label: _label, ...peer }) => [publicKey, peer])),
    );
    assertEquals(seen.switch?.bridges.map(({ name }) => name).sort(), ["br-und", "ovsbr-mobula"]);
    const bridge = seen.switch?.bridges.find(({ name }) => name === LINK.switch);
    assertEquals(bridge?.columns["other_config:hwaddr"], `02:6d:6f:00:0${id}:0c`);
    assertEquals(bridge?.columns.protocols, "OpenFlow10,OpenFlow13");
    assertEquals(bridge?.ports.length, 4);
    const tunnel = seen.switch?.interfaces.find(({ name }) => name.startsWith("mo-t-"));
    assertEquals(tunnel?.columns["options:local_ip"], `169.254.0.${id}`);
    assertEquals(seen.firewall, wanted.firewall.text);
    assertEquals(seen.flows, wanted.flows.text);
    assertEquals(seen.shortcut, wanted.shortcut.text);
    assertEquals(seen.activeUnits, wanted.units);
  });
}

Deno.test("parseSeen: a host that says nothing has nothing", () => {
  assertEquals(parseSeen("", wanted.units), {
    namespaces: [],
    sysctls: [],
    links: [],
    routes: [],
    neighbours: [],
    rules: [],
    activeUnits: [],
  });
});

Deno.test("parseSeen: a failed daemon is not active, the ones behind it are told apart", () => {
  const states = ["active", "failed", "active", "activating"];
  const output = text.replace(/@@units\n[^]*$/, `@@units\n${states.join("\n")}\n`);
  assertEquals(parseSeen(output, wanted.units).activeUnits, [wanted.units[0], wanted.units[2]]);
});

Deno.test("lookScript: asks only, and for every setting and unit that is wanted", () => {
  const script = lookScript(wanted.sysctls, wanted.units);
  for (const { key } of wanted.sysctls) {
    assert(script.includes(`/proc/sys/${key.replaceAll(".", "/")}`));
  }
  assert(script.includes(`systemctl is-active ${wanted.units.join(" ")}\n`));
});

Deno.test("parseModes: octal mode and owner by path", () => {
  const said = "@@modes\n644 0:0 /etc/a\n4755 1000:5 /opt/b\nstat: cannot stat\n@@units\nactive\n";
  assertEquals([...parseModes(said)], [
    ["/etc/a", { mode: 0o644, owner: "0:0" }],
    ["/opt/b", { mode: 0o4755, owner: "1000:5" }],
  ]);
});

Deno.test("parseSeen: what differs from what loading made does not count as loaded", () => {
  const loadedOf = (output: string, changed: Readonly<Record<string, string | undefined>> = {}) => {
    const seen = parseSeen(output, wanted.units, new Map([...files, ...Object.entries(changed)]));
    return (["firewall", "flows", "shortcut"] as const).filter((what) => seen[what] !== undefined);
  };
  assertEquals(loadedOf(text), ["firewall", "flows", "shortcut"]);
  assertEquals(loadedOf(text.replace("table ip mobula {", "table ip mobula { # by hand")), [
    "flows",
    "shortcut",
  ]);
  assertEquals(loadedOf(text.replace("priority=0 actions=NORMAL", "priority=1 actions=NORMAL")), [
    "firewall",
    "shortcut",
  ]);
  assertEquals(loadedOf(text, { "/run/mobula/shortcut.listing": undefined }), ["firewall", "flows"]);
  assertEquals(loadedOf(text, { "/run/mobula/firewall.nft": undefined }), ["flows", "shortcut"]);
  assertEquals(loadedOf(""), []);
});

Deno.test("parseSeen: earlier versions sorted the flows and left out the learned ones", () => {
  const live =
    "OFPST_FLOW reply:\n table=3, actions=drop\n table=1, actions=learned\n actions=NORMAL\n group_id=1\n";
  const listing = " actions=NORMAL\n group_id=1\n table=3, actions=drop\n";
  const seen = parseSeen(
    `@@live flows\n${live}`,
    [],
    new Map([["/run/mobula/flows.text", "the flows"], ["/run/mobula/flows.listing", listing]]),
  );
  assertEquals(seen.flows, "the flows");
});
