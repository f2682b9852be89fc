import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import {
  installStep,
  maskSteps,
  missingPackages,
  PROVING_COMMANDS,
  refreshStep,
  repairSteps,
  simulateStep,
} from "../../lib/distro/packages.ts";
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
