/**
 * `mobula uninstall`: every object of the host is as it was before the installation, however that ended. Needs root and the lab's
 * packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { EXIT } from "../../lib/errors.ts";
import { executable } from "./executables.ts";
import { expectAsBefore, settledPicture } from "./host_picture.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask } from "./snapshot.ts";
import { address6, FOREIGN, NETWORK, ROUTER, ROUTER6, WORLD } from "./underlay.ts";
import { waitFor } from "./wait.ts";

/** One for each way in which a host's network is configured; the last has no packages yet. */
const HOSTS: readonly HostOptions[] = [
  { name: "networkd", address: "198.51.100.2", suite: "trixie" },
  { name: "ifupdown", address: "198.51.100.3", suite: "bookworm" },
  { name: "bare", address: "198.51.100.4", suite: "bookworm", image: "bare" },
];

/** Those whose files must be the same to the last byte: nothing is installed there. */
const PREPARED = ["networkd", "ifupdown"];

const [ADDRESS, ADDRESS6] = ["198.51.100.3", address6("198.51.100.3")];

const INTERFACES = `# The loopback and the primary interface.
auto lo host0
iface lo inet loopback

iface host0 inet static
    address ${ADDRESS}/24
    gateway ${ROUTER}
    up ip route add ${NETWORK} dev host0 table ${FOREIGN.table}
    up ip route add default via ${ROUTER} dev host0 table ${FOREIGN.table}
    up ip rule add from ${ADDRESS} table ${FOREIGN.table} priority ${FOREIGN.priority}

iface host0 inet6 static
    address ${ADDRESS6}/64
    gateway ${ROUTER6}
`;

/** Does with that file what ifupdown does, and minds what ifupdown minds: an address that is there already. */
const IFUP = `#!/bin/sh
set -eu
ip link set lo up
grep -q '^auto .*host0' /etc/network/interfaces || exit 0
value() { sed -n "s/^    $1 //p" /etc/network/interfaces; }
ip addr add "$(value address | sed 1q)" broadcast + dev host0
ip link set host0 up
ip route add default via "$(value gateway | sed 1q)" dev host0 onlink
ip addr add "$(value address | sed 1d)" dev host0
ip -6 route add default via "$(value gateway | sed 1d)" dev host0
value up | sh -eu
`;

const NETWORKING = `[Unit]
DefaultDependencies=no
After=local-fs.target network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ifup -a
[Install]
WantedBy=multi-user.target
`;

interface Before {
  readonly program: string;
  readonly network: ReadonlyMap<string, readonly string[]>;
  readonly files: ReadonlyMap<string, readonly string[]>;
}

const { proof } = setStage<Before>({ name: "armed-uninstall", hosts: HOSTS, prepare });

async function prepare(lab: Lab): Promise<Before> {
  const program = await executable("compiled");
  await useIfupdown(lab, "ifupdown");
  await writeInventory(lab);
  const [network, files] = [new Map(), new Map()];
  for (const { name } of HOSTS) {
    network.set(name, await settledPicture(lab, name, "network"));
    files.set(name, await settledPicture(lab, name, "files"));
  }
  return { program, network, files };
}

async function useIfupdown(lab: Lab, host: string): Promise<void> {
  const write = async (path: string, text: string, mode = "644") => {
    const argv = ["sh", "-euc", 'mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"', "sh", path, mode];
    expectCode(await lab.exec(host, argv, { stdin: text }), 0, path);
  };
  await write("/etc/network/interfaces", INTERFACES);
  await write("/usr/sbin/ifup", IFUP, "755");
  await write("/etc/systemd/system/networking.service", NETWORKING);
  await write("/etc/resolv.conf", `search example.org\nnameserver ${WORLD}\n`);
  await ask(lab, host, [
    "sh",
    "-euc",
    "systemctl -q disable systemd-networkd.service systemd-networkd.socket; systemctl -q enable networking.service",
  ]);
  await lab.reboot(host);
}

async function expectNothingLeft(
  lab: Lab,
  { network, files }: Before,
  names: readonly string[],
): Promise<void> {
  for (const name of names) {
    await expectAsBefore(lab, name, { part: "network", before: network.get(name)!, deadlineMs: 15_000 });
    if (PREPARED.includes(name)) {
      await expectAsBefore(lab, name, { part: "files", before: files.get(name)!, deadlineMs: 5_000 });
    }
  }
}

const SLOW_HOST = {
  "/etc/systemd/system.conf.d/slow.conf": "[Manager]\nDefaultTimeoutStartSec=10s\n",
  "/run/systemd/system/mobula-rollback.service.d/slow.conf": "[Service]\nExecStartPre=/bin/sleep 12\n",
};

/** The way back takes longer than systemd gives a start by default. */
async function makeSlow(lab: Lab, host: string): Promise<void> {
  for (const [path, text] of Object.entries(SLOW_HOST)) {
    const argv = ["sh", "-euc", 'mkdir "${1%/*}"; cat >"$1"', "sh", path];
    expectCode(await lab.exec(host, argv, { stdin: text }), 0, path);
  }
  await ask(lab, host, ["systemctl", "daemon-reload"]);
}

async function makeFast(lab: Lab, host: string): Promise<void> {
  for (const path of Object.keys(SLOW_HOST)) {
    await ask(lab, host, ["sh", "-c", 'rm -r "${1%/*}"', "sh", path]);
  }
  await ask(lab, host, ["systemctl", "daemon-reload"]);
}

async function push(lab: Lab, { program }: Before): Promise<void> {
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "push");
}

proof(
  "uninstall: links, addresses, routes, rules, firewall, units and files are as before",
  async (lab, before) => {
    assertEquals(await packages(lab, "bare"), []);
    await push(lab, before);
    assertEquals(await packages(lab, "bare"), PACKAGES);
    assertMatch(await ask(lab, "ifupdown", ["cat", "/etc/network/interfaces"]), /#mobula# /);
    assert((await masked(lab, "bare")).length > 0);
    await makeSlow(lab, "networkd");
    const result = await mobula(lab, { executable: before.program }, "uninstall");
    await makeFast(lab, "networkd");
    expectCode(result, 0, "uninstall");
    for (const { name } of HOSTS) {
      assertMatch(
        result.stdout,
        new RegExp(`^${name} \\(id \\d+\\): uninstalled$`, "m"),
      );
    }
    assertEquals(result.stdout.includes("differs"), false, result.stdout);
    await expectNothingLeft(lab, before, HOSTS.map(({ name }) => name));
    assertEquals(await masked(lab, "bare"), []);
    assertEquals(await packages(lab, "bare"), PACKAGES);
  },
);

/** What an installation needs, and brings where it is not there. */
const PACKAGES = ["dnsmasq-base", "nftables", "openvswitch-switch", "wireguard-tools"];

/** Those of them that dpkg calls installed on a host. */
async function packages(lab: Lab, host: string): Promise<string[]> {
  const query = ["dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Package}\\n", ...PACKAGES];
  const { stdout } = await lab.exec(host, query);
  return stdout.split("\n").flatMap((line) => /^ii +(\S+)$/.exec(line)?.[1] ?? []).sort();
}

async function masked(lab: Lab, host: string): Promise<string[]> {
  const script =
    'cd /etc/systemd/system; for unit in ov*; do [ "$(readlink "$unit")" != /dev/null ] || echo "$unit"; done';
  return (await ask(lab, host, ["sh", "-c", script])).split("\n").filter((line) => line !== "");
}

proof("uninstall again: there is nothing to remove", async (lab, before) => {
  const result = await mobula(lab, { executable: before.program }, "uninstall");
  expectCode(result, 0, "uninstall");
  for (const { name } of HOSTS) {
    assertMatch(result.stdout, new RegExp(`^${name} \\(id \\d+\\): nothing to remove$`, "m"));
  }
  await expectNothingLeft(lab, before, HOSTS.map(({ name }) => name));
});

proof(
  "uninstall: after the hosts' own network came back, a reboot brings it up as before",
  async (lab, before) => {
    await lab.reboot("ifupdown");
    await expectNothingLeft(lab, before, ["ifupdown"]);
  },
);

/** No kernel takes it for an interface's address: it is a group's. */
const IMPOSSIBLE = "ff02::7/64";

async function addToBaseline(lab: Lab, host: string, address: string): Promise<void> {
  const path = "/opt/mobula/baseline.json";
  const baseline = JSON.parse(await ask(lab, host, ["cat", path]));
  const stdin = JSON.stringify({ ...baseline, addresses: [...baseline.addresses, address] });
  expectCode(await lab.exec(host, ["sh", "-c", 'cat >"$1"', "sh", path], { stdin }), 0, path);
}

proof(
  "uninstall: what cannot come back is told, and all else is as before; a second one --local has nothing to do",
  async (lab, before) => {
    await push(lab, before);
    for (const name of PREPARED) await addToBaseline(lab, name, IMPOSSIBLE);
    const limit = ["--limit", "networkd,bare"];
    const result = await mobula(lab, { executable: before.program }, "uninstall", ...limit);
    expectCode(result, 0, "uninstall");
    const differs = `differs from before: address ${IMPOSSIBLE} is missing`;
    assertMatch(result.stdout, new RegExp(`^networkd \\(id 2\\): uninstalled\n    ${differs}$`, "m"));
    assertMatch(result.stdout, /^bare \(id 4\): uninstalled$/m);
    assertEquals([...new Set(result.stdout.match(/\bdiffers from before: .*/g))], [differs]);
    const journal = ["journalctl", "-o", "cat", "-u", "mobula-rollback"];
    assertMatch(await ask(lab, "networkd", journal), new RegExp(differs));
    await ask(lab, "ifupdown", ["cp", "/opt/mobula/bin/mobula", "/root/mobula"]);
    const here = () => lab.exec("ifupdown", ["/root/mobula", "uninstall", "--local"]);
    const first = await here();
    expectCode(first, 0, "uninstall --local");
    assertMatch(first.stdout, new RegExp(`^Uninstalled\\.\nD${differs.slice(1)}$`, "m"));
    const second = await here();
    expectCode(second, 0, "the second uninstall --local");
    assertEquals(second.stdout, "There is nothing to remove.\n");
    await expectNothingLeft(lab, before, HOSTS.map(({ name }) => name));
  },
);

proof("uninstall after an installation that was killed half-way", async (lab, before) => {
  const log = `${lab.directory}/half.log`;
  const argv = [before.program, "push", "--verbose", "--no-reboot", "--ssh-config", lab.sshConfig];
  const [command = "", ...args] = lab.deployer.enter(["sh", "-c", 'exec "$@" >"$0" 2>&1', log, ...argv]);
  const child = new Deno.Command(command, { args, cwd: lab.directory, stdin: "null" }).spawn();
  const half = PREPARED.map((name) => killUp(lab, name));
  await waitFor("the activation", () => Deno.readTextFileSync(log).includes("- start mobula.service"), {
    intervalMs: 20,
    deadlineMs: 60_000,
  });
  await Promise.all(half);
  child.kill("SIGKILL");
  await child.status;
  // Past the network, which is half gone: what the admin would do at the console.
  for (const name of PREPARED) {
    await uninstallPastLock(lab, name);
  }
  await expectNothingLeft(lab, before, PREPARED);
  expectCode(await mobula(lab, { executable: before.program }, "uninstall"), 0, "uninstall of the rest");
  await expectNothingLeft(lab, before, ["bare"]);
});

/** For a minute the host cannot know that the push is dead, and says so. */
async function uninstallPastLock(lab: Lab, name: string): Promise<void> {
  const result = await waitFor(`the end of the dead push's lock on ${name}`, async () => {
    const said = await lab.exec(name, ["/opt/mobula/bin/mobula", "uninstall", "--local"]);
    return said.code === EXIT.locked ? undefined : said;
  }, { deadlineMs: 90_000, intervalMs: 1000 });
  expectCode(result, 0, `the uninstallation of ${name}`);
  assertMatch(result.stdout, /^Uninstalled\.$/m);
}

/** Kills what configures the network as soon as the external interface has been taken away. */
async function killUp(lab: Lab, host: string): Promise<void> {
  const script = "until ip -n mobula link show host0 >/dev/null 2>&1; do sleep 0.05; done; " +
    "systemctl kill --signal=KILL mobula.service";
  await lab.exec(host, ["timeout", "60", "sh", "-c", script]);
}
