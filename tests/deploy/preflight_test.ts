import { assertEquals, assertMatch } from "@std/assert";
import { parseLook } from "../../lib/deploy/look.ts";
import { preflight } from "../../lib/deploy/preflight.ts";
import type { HostFacts } from "../../lib/facts.ts";
import { fleetOf, hostOf } from "./fleet.ts";

const NOW = 1795353921;

function captured(name: string): HostFacts {
  return parseLook(Deno.readTextFileSync(new URL(`look/${name}.txt`, import.meta.url)));
}

/** `error: …` and `warning: …` of one host. */
function judge(facts: HostFacts, { address = "198.51.100.2", reinstall = false, now = NOW } = {}): string[] {
  const host = { ...hostOf(2), address };
  return preflight(fleetOf([host]), new Map([[2, facts]]), { reinstall, now })
    .map(({ severity, message }) => `${severity}: ${message}`);
}

function only(problems: readonly string[], pattern: RegExp): void {
  assertEquals(problems.length, 1, problems.join("\n"));
  assertMatch(problems[0]!, pattern);
}

Deno.test("preflight: bare and installed hosts are fine", () => {
  assertEquals(judge(captured("debian11")), []);
  assertEquals(judge(captured("debian12")), []);
  assertEquals(judge(captured("debian13"), { address: "198.51.100.4" }), []);
  assertEquals(judge(captured("debian12_installed")), []);
});

Deno.test("preflight: systems that are not supported are refused by name, with those that are", () => {
  only(
    judge(captured("centos7"), { address: "198.51.100.10" }),
    /^error: Cannot install on CentOS Linux 7.*expected Debian 11 to 13/,
  );
  const alpine = judge(captured("alpine"), { address: "198.51.100.9" });
  assertMatch(alpine[0]!, /Alpine has no systemd/);
  assertMatch(alpine[1]!, /without systemd/);
  only(judge({ ...captured("debian12"), osVersion: "10" }), /Debian 10; expected/);
  only(judge({ ...captured("debian12"), osVersion: "" }), /rolling/);
  only(judge({ ...captured("debian12"), architecture: "aarch64" }), /aarch64; expected x86_64/);
});

Deno.test("preflight: the bridge of virtual machines that veth_fac0 is in may carry the host's access address", () => {
  const file = new URL("look/debian12_installed.txt", import.meta.url);
  const lines = Deno.readTextFileSync(file).replace(
    /(?: dev |: )veth_fac0/g,
    (found) => found.replace("veth_fac0", "br0"),
  );
  assertEquals(judge(parseLook(lines.replace("ip=yes", "ip=yes\naccess-bridge=br0"))), []);
  assertEquals(judge(parseLook(lines)).length, 2);
});

Deno.test("preflight: everything wrong is told at once", () => {
  const problems = judge(captured("debian12_bare"));
  for (
    const pattern of [
      /without root/,
      /200 MiB free/,
      /interrupted in phase "unknown"/,
      /no IPv4 default route/,
      /51820: taken by "wg-quick",pid=812/,
    ]
  ) {
    assertEquals(problems.filter((problem) => pattern.test(problem)).length, 1, String(pattern));
  }
  assertEquals(problems.length, 5);
});

Deno.test("preflight: an interrupted installation names phase, time and the way out, and is repaired by it", () => {
  const state = {
    schema: 1,
    status: "installing",
    phase: "stage",
    since: "2026-11-20T08:15:00Z",
    generation: 0,
  } as const;
  only(judge({ ...captured("debian12"), state }), /phase "stage" at 2026-11-20T08:15:00Z.*--reinstall/);
  assertEquals(judge({ ...captured("debian12"), state }, { reinstall: true }), []);
});

Deno.test("preflight: the external address is on the external interface, or behind NAT", () => {
  only(
    judge(captured("ubuntu24_nat")),
    /^warning: 198.51.100.2 is not on the host \(ens5 has 10.0.3.7\): behind NAT/,
  );
  only(
    judge(captured("debian12"), { address: "198.51.100.77" }),
    /^error: Cannot find 198.51.100.77.*Is this another host/,
  );
  const elsewhere = { ...captured("debian12"), externalInterface: "eth7" };
  const addresses = [...elsewhere.addresses, { interface: "eth7", address: "203.0.113.5/24" }];
  only(judge({ ...elsewhere, addresses }), /it is on ens3; expected it on eth7/);
  only(judge(elsewhere), /eth7: it has no IPv4 address/);
});

Deno.test("preflight: networks of ours that are in use on the host", () => {
  const facts = captured("debian12");
  const withAddress = {
    ...facts,
    addresses: [...facts.addresses, { interface: "eth1", address: "10.31.7.1/24" }],
  };
  only(judge(withAddress), /Cannot use 10.31.0.0\/16: the host has address 10.31.7.1\/24 on eth1/);
  only(
    judge({ ...facts, routes: ["10.30.5.0/24"] }),
    /Cannot use 10.30.0.0\/16: the host has route to 10.30.5.0\/24/,
  );
  only(judge({ ...facts, routes: ["10.30.0.0/16"] }), /10.30.0.0\/16/);
  assertEquals(judge({ ...facts, routes: ["10.0.0.0/8", "10.32.0.0/16", "default"] }), []);
});

Deno.test("preflight: a wrong clock is a warning with its size and direction", () => {
  only(judge(captured("debian12"), { now: NOW + 3600 }), /^warning: its clock is 3600 s behind/);
  only(judge(captured("debian12"), { now: NOW - 500 }), /500 s ahead/);
});

Deno.test("preflight: an sshd that listens only on the external address would be out of reach", () => {
  const facts = captured("ubuntu22");
  const address = "198.51.100.5";
  only(
    judge(facts, { address }),
    /Cannot keep SSH reachable: sshd listens only on 198.51.100.5:2222.*ListenAddress/,
  );
  for (const listener of ["0.0.0.0:2222", "*:2222", "[::]:2222"]) {
    assertEquals(judge({ ...facts, sshListeners: [...facts.sshListeners, listener] }, { address }), []);
  }
  assertEquals(judge({ ...facts, sshListeners: [] }, { address }), []);
});

Deno.test("preflight: modules that a package or a reboot could bring are a warning where userspace can do the work", () => {
  only(
    judge(captured("ubuntu24_minimal"), { address: "10.0.3.7" }),
    /^warning: kernel 6\.8\.0-51-generic has no module openvswitch, geneve: .*userspace, slower\. Install linux-modules-extra-6\.8\.0-51-generic first/,
  );
  only(
    judge(captured("debian12_upgraded")),
    /^warning: kernel 6\.1\.0-49-amd64 has no module wireguard, openvswitch, geneve: .* Reboot: .* are gone, those of 6\.1\.0-50-amd64 are there first/,
  );
});

Deno.test("preflight: without modules and without a userspace program that could do the work, a host is refused", () => {
  const foreign = captured("debian11_foreign_kernel");
  only(
    judge(foreign),
    /^error: Cannot run WireGuard: kernel 5\.4\.0-provider has no module wireguard.*Debian 11 has no package of wireguard-go; .* Install linux-image-amd64 and reboot into it$/,
  );
  only(judge({ ...foreign, lacks: { ...foreign.lacks!, wireguardGo: true } }), /^warning: .*in userspace/);
  const container = captured("debian13_container");
  only(
    judge(container, { address: "198.51.100.4" }),
    /^error: Cannot do without kernel modules: .*no \/dev\/net\/tun; .* Run "modprobe -a wireguard openvswitch geneve" on the machine that the container runs on$/,
  );
  const withTun = { ...container, lacks: { ...container.lacks!, tun: true } };
  assertEquals(judge(withTun, { address: "198.51.100.4" }), []);
});

Deno.test("preflight: without modules that no program takes the place of, a host is refused whatever else it has", () => {
  only(
    judge(captured("debian12_no_nftables")),
    /^error: Cannot do without kernel modules: kernel 6\.1\.0-50-amd64 has no module nf_tables, nft_chain_nat, and no program takes the place of nf_tables, nft_chain_nat; .* Reinstall linux-image-6\.1\.0-50-amd64$/,
  );
  only(
    judge(captured("debian12_upgraded_idle")),
    /^error: .* no module wireguard, .*, bridge, and no program takes the place of nf_tables, nft_chain_nat, veth, bridge; .* Reboot: .* those of 6\.1\.0-50-amd64 are there$/,
  );
  const container = captured("debian13_container");
  const lacks = { ...container.lacks!, tun: true, wireguardGo: true };
  for (const name of ["nf_tables", "nft_chain_nat", "veth", "bridge"]) {
    only(
      judge({ ...container, lacks: { ...lacks, modules: [...lacks.modules, name] } }, {
        address: "198.51.100.4",
      }),
      new RegExp(`^error: .* the place of ${name}; .* Run "modprobe -a .* ${name}" on the machine`),
    );
  }
});

const SERVICES: HostFacts["services"] = [
  { protocol: "tcp", port: 22, program: "sshd", reach: "all" },
  { protocol: "tcp", port: 80, program: "nginx", reach: "all" },
  { protocol: "udp", port: 53, program: "named", reach: "all" },
];

function judgeServices(
  services: HostFacts["services"],
  changes: Parameters<typeof hostOf>[1] = {},
): string[] {
  const facts = { ...captured("debian12"), services };
  const found = preflight(fleetOf([hostOf(2, changes)]), new Map([[2, facts]]), {
    reinstall: false,
    now: NOW,
  });
  return found.map(({ severity, message }) => `${severity}: ${message}`);
}

Deno.test("preflight: what nobody outside would reach any more is named, with the line that keeps it", () => {
  only(
    judgeServices(SERVICES),
    /^warning: nobody outside will reach nginx on 80\/tcp, named on 53\/udp; to keep it write "forward: \[80, "53\/udp"\]" or/,
  );
  only(
    judgeServices(SERVICES, { forward: [{ external: 8080, internal: 80, protocol: "tcp" }] }),
    /reach named on 53\/udp; .* write "forward: \["8080:80", "53\/udp"\]"/,
  );
  assertEquals(judgeServices(SERVICES, { preserveServices: true }), []);
  assertEquals(judge({ ...captured("debian12_installed"), services: SERVICES }), []);
});

Deno.test("preflight: services that a forward does not help are told, too", () => {
  const [web, name] = [SERVICES[1]!, SERVICES[2]!];
  const preserve = { preserveServices: true };
  only(
    judgeServices([{ ...web, reach: "address" }], preserve),
    /nginx on 80\/tcp listens on the external address alone/,
  );
  only(
    judgeServices([{ ...name, reach: "ipv6" }], preserve),
    /named on 53\/udp, which listens on IPv6 alone/,
  );
});

Deno.test("preflight: a forward of the port by which SSH really arrives is refused", () => {
  const forward = [{ external: 22, internal: 8022, protocol: "tcp" }] as const;
  only(judgeServices([], { forward }), /^error: Cannot forward 22\/tcp: SSH arrives there/);
});

Deno.test("preflight: preserve_services on a host whose baseline does not know what was there", () => {
  const facts = { ...captured("debian12_installed"), servicesUnrecorded: true };
  const found = preflight(fleetOf([hostOf(2, { preserveServices: true })]), new Map([[2, facts]]), {
    reinstall: false,
    now: NOW,
  });
  only(found.map(({ message }) => message), /preserve_services keeps nothing/);
});
