import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  installStep,
  maskSteps,
  missingPackages,
  newPackages,
  PROVING_COMMANDS,
  refreshStep,
  removedPackages,
  repairSteps,
  simulateStep,
} from "../../lib/distro/packages.ts";
import { wayToModules } from "../../lib/distro/modules.ts";
import { type Distro, findDistro } from "../../lib/distro/table.ts";

function distro(id: string, version: string): Distro {
  const answer = findDistro(id, [], version);
  if ("distro" in answer) return answer.distro;
  throw new Error(answer.refused);
}

Deno.test("findDistro: supported versions, and none beside them", () => {
  const found = (id: string, version: string) => "distro" in findDistro(id, [], version);
  for (const version of ["11", "12", "13", "12.5"]) assert(found("debian", version), version);
  for (const version of ["9", "10", "14", "", "sid", "1"]) assert(!found("debian", version), version);
  for (const version of ["20.04", "22.04", "24.04", "26.04"]) assert(found("ubuntu", version), version);
  for (const version of ["18.04", "19.10", ""]) assert(!found("ubuntu", version), version);
});

Deno.test("findDistro: a refusal says what was found, why, and what is wanted", () => {
  const reason = (id: string, like: string[], version: string) => {
    const answer = findDistro(id, like, version);
    return "refused" in answer ? answer.refused : "";
  };
  assertMatch(reason("alpine", [], "3.20"), /no systemd; expected Debian/);
  assertMatch(reason("amzn", ["fedora"], "2023"), /no package of Open vSwitch/);
  assertMatch(
    reason("rocky", ["rhel", "centos", "fedora"], "9.4"),
    /rocky 9.4 \(like rhel, centos, fedora\) is not in the table/,
  );
  assertMatch(reason("", [], ""), /without \/etc\/os-release/);
  assertMatch(reason("constructor", [], "1"), /not in the table/);
});

Deno.test("missingPackages: what is there is never touched, wireguard-go only without the kernel's", () => {
  const debian = distro("debian", "12");
  const none = new Set<string>();
  assertEquals(missingPackages(debian, { commands: none, wireguardInUserspace: false }), [
    ...[
      "openvswitch-switch",
      "wireguard-tools",
      "nftables",
      "dnsmasq-base",
      "iproute2",
      "iputils-ping",
      "ethtool",
      "kmod",
    ],
  ]);
  assert(missingPackages(debian, { commands: none, wireguardInUserspace: true }).includes("wireguard-go"));
  const all = new Set(PROVING_COMMANDS);
  assertEquals(missingPackages(debian, { commands: all, wireguardInUserspace: true }), []);
  const old = distro("debian", "11");
  assertThrows(
    () => missingPackages(old, { commands: none, wireguardInUserspace: true }),
    RangeError,
    "wireguard-go",
  );
  assertEquals(missingPackages(old, { commands: all, wireguardInUserspace: true }), []);
});

Deno.test("apt: nothing asks a question, and a lock is waited for", () => {
  const debian = distro("debian", "13");
  const install = installStep(debian, ["nftables"]).argv.join(" ");
  assertEquals(
    install,
    "env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none " +
      "apt-get -y --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold " +
      "-o DPkg::Lock::Timeout=600 install nftables",
  );
  assertMatch(simulateStep(debian, ["nftables"]).argv.join(" "), / -s install nftables$/);
  assertMatch(refreshStep(debian).argv.join(" "), /apt-get -qq .*update$/);
});

Deno.test("maskSteps: all units of Open vSwitch, and the way back", () => {
  const [step] = maskSteps(distro("debian", "12"));
  assertEquals(step?.argv.slice(0, 2), ["systemctl", "mask"]);
  assertEquals(step?.undo?.slice(0, 2), ["systemctl", "unmask"]);
  assert(step?.argv.includes("ovsdb-server.socket"));
});

Deno.test("repairSteps: what was half installed is configured, the user's files stay as they are", () => {
  const [configure, complete] = repairSteps(distro("debian", "12"));
  assertMatch(
    configure.argv.join(" "),
    /DEBIAN_FRONTEND=noninteractive .*dpkg .*--force-confold --configure -a$/,
  );
  assertMatch(complete.argv.join(" "), /--force-confold.* --fix-broken install$/);
});

Deno.test("wayToModules: the package of the running kernel, the distribution's kernel, or a reboot", () => {
  const way = (id: string, version: string, kernel: string, kernels = [kernel]) =>
    wayToModules(distro(id, version), kernel, {
      ...{ modules: ["openvswitch", "geneve"], kernels, container: false, tun: true, wireguardGo: false },
    });
  assertEquals(way("ubuntu", "24.04", "6.8.0-51-generic"), "Install linux-modules-extra-6.8.0-51-generic");
  assertEquals(way("ubuntu", "22.04", "6.5.0-1024-aws"), "Install linux-modules-extra-6.5.0-1024-aws");
  assertEquals(way("ubuntu", "20.04", "5.4.0-1100-kvm"), "Install linux-image-generic and reboot into it");
  for (const kernel of ["6.1.0-50-amd64", "6.12.107+deb13-cloud-amd64", "5.10.0-0.bpo.15-amd64"]) {
    assertEquals(way("debian", "12", kernel), `Reinstall linux-image-${kernel}`);
  }
  assertEquals(way("debian", "12", "6.8.12-4-pve"), "Install linux-image-amd64 and reboot into it");
  assertEquals(way("debian", "12", "5.4.0-provider", []), "Install linux-image-amd64 and reboot into it");
  assertMatch(way("debian", "12", "6.1.0-49-amd64", ["6.1.0-50-amd64"]), /^Reboot: /);
});

Deno.test("newPackages: what a simulated installation would bring, not what it would only upgrade", () => {
  const said = `NOTE: This is only a simulation!
Inst libunbound8 (1.17.1-2 Debian:12.4/stable [amd64])
Inst libc6:amd64 [2.36-9] (2.36-10 Debian:12.4/stable [amd64])
Inst libssl3:i386 (3.0.11 Debian:12.4/stable [i386])
Conf libunbound8 (1.17.1-2 Debian:12.4/stable [amd64])
`;
  assertEquals(newPackages(said), ["libunbound8", "libssl3"]);
});

Deno.test("removedPackages: what a simulated removal would take along", () => {
  const said =
    "Purg openvswitch-switch [3.1.0-2]\nRemv admins-own [1]\nPurg libunbound8:amd64 [1.17.1-2] [bare:amd64 ]\n";
  assertEquals(removedPackages(said), ["openvswitch-switch", "admins-own", "libunbound8"]);
});
