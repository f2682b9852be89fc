/** The network managers let go of the card, and of nothing else. */
import { assertEquals } from "@std/assert";
import { ifupdownEdits, releaseInterface, restoreInterfaces } from "../../lib/render/ifupdown.ts";
import { renderManagers } from "../../lib/render/managers.ts";
import { baselineOf } from "../net/fixtures.ts";

const CASES: readonly [string, string, string][] = [
  [
    "the stanzas of both families become comments, comments and blank lines stay",
    "auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet static\n\taddress 198.51.100.2/24\n\n" +
    "\t# the router\n\tgateway 198.51.100.254\niface eth0 inet6 static\n  address 2001:db8::2/64\n",
    "auto lo\niface lo inet loopback\n\n#mobula# allow-hotplug eth0\n#mobula# iface eth0 inet static\n" +
    "#mobula# \taddress 198.51.100.2/24\n\n\t# the router\n#mobula# \tgateway 198.51.100.254\n" +
    "#mobula# iface eth0 inet6 static\n#mobula#   address 2001:db8::2/64\n",
  ],
  [
    "other interfaces of one list are still brought up",
    "auto lo eth0 eth1\nallow-hotplug eth0 wlan0\nauto eth0\n",
    "auto lo eth1\nallow-hotplug wlan0\n#mobula# auto eth0\n",
  ],
  [
    "other interfaces are not touched, though their names begin alike",
    "auto eth00\niface eth00 inet dhcp\n  up ip link set eth0 up\nauto eth0.5\niface eth0.5 inet manual\n",
    "auto eth00\niface eth00 inet dhcp\n  up ip link set eth0 up\nauto eth0.5\niface eth0.5 inet manual\n",
  ],
  [
    "aliases go with the card",
    "auto eth0:1\niface eth0:1 inet static\n  address 198.51.100.9/24\n",
    "#mobula# auto eth0:1\n#mobula# iface eth0:1 inet static\n#mobula#   address 198.51.100.9/24\n",
  ],
  [
    "an extended list is one list",
    "auto lo \\\n  eth0 \\\n  eth1\nauto \\\n  eth0\n",
    "auto lo eth1\n#mobula# auto \\\n#mobula#   eth0\n",
  ],
  [
    "an extended option becomes a comment whole",
    "iface eth0 inet dhcp\n  up ip route add 192.0.2.0/24 \\\n    via 198.51.100.1\nsource other\n",
    "#mobula# iface eth0 inet dhcp\n#mobula#   up ip route add 192.0.2.0/24 \\\n#mobula#     via 198.51.100.1\nsource other\n",
  ],
  [
    "a comment is never extended",
    "# see \\\nauto eth0\n",
    "# see \\\n#mobula# auto eth0\n",
  ],
  [
    "source and mapping end a stanza",
    "iface eth0 inet dhcp\nsource /etc/network/interfaces.d/*\nmapping eth1\n  script x\nsource-directory more\n",
    "#mobula# iface eth0 inet dhcp\nsource /etc/network/interfaces.d/*\nmapping eth1\n  script x\nsource-directory more\n",
  ],
  ["a text without a last line break gets none", "auto eth0", "#mobula# auto eth0"],
];

for (const [what, before, after] of CASES) {
  Deno.test(`releaseInterface: ${what}`, () => {
    const edited = releaseInterface(before, "eth0");
    assertEquals(edited, after);
    assertEquals(releaseInterface(edited, "eth0"), after);
  });

  Deno.test(`restoreInterfaces: takes back: ${what}`, () => {
    assertEquals(restoreInterfaces(after, "eth0", before), before);
    assertEquals(restoreInterfaces(before, "eth0", before), before);
    const edited = restoreInterfaces(`# a line of the admin's\n${after}`, "eth0", before);
    assertEquals(edited, `# a line of the admin's\n${before}`);
  });
}

Deno.test("renderManagers: every manager of the host, and only these", () => {
  const paths = (managers: ("networkd" | "NetworkManager" | "ifupdown")[]) =>
    renderManagers(baselineOf("198.51.100.2", { managers }), "none").map(({ path }) => path.split("/")[2]);
  assertEquals(paths([]), []);
  assertEquals(paths(["ifupdown"]), []);
  assertEquals(paths(["NetworkManager"]), ["NetworkManager"]);
  assertEquals(new Set(paths(["networkd", "NetworkManager"])), new Set(["systemd", "NetworkManager"]));
});

Deno.test("renderManagers: veth_fac0 is left to the admin unless the access is configured", () => {
  const text = (access: "auto" | "none") =>
    renderManagers(baselineOf("198.51.100.2"), access).map(({ content }) => content).join("");
  assertEquals(text("auto").includes("Name=mo-dir-hs veth_enp1s0 veth_fac0\n"), true);
  assertEquals(text("none").includes("Name=mo-dir-hs veth_enp1s0\n"), true);
});

Deno.test("ifupdownEdits: the files of the baseline, where ifupdown is installed", () => {
  const interfaces = { "/etc/network/interfaces.d/50-cloud-init": "", "/etc/network/interfaces": "" };
  const paths = (managers: ("ifupdown" | "networkd")[]) =>
    ifupdownEdits(baselineOf("198.51.100.2", { managers, interfaces })).map(({ path }) => path);
  assertEquals(paths(["ifupdown"]), ["/etc/network/interfaces", "/etc/network/interfaces.d/50-cloud-init"]);
  assertEquals(paths(["networkd"]), []);
});
