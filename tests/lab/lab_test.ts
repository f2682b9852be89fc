/**
 * The lab itself: hosts that start, reboot and lose power like real ones, a world to install packages from, and nothing left.
 * Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { capture, sendFrame } from "./capture.ts";
import { addClient, addGuest, scanPorts } from "./client.ts";
import { writeInventory } from "./inventory.ts";
import { down, type Lab, openLab, printJournals, traces, up, withLab } from "./lab.ts";
import { expectPowerCut, expectReboot } from "./life.ts";
import { ensurePackages } from "./packages.ts";
import {
  containerInit,
  endGroup,
  groupMembers,
  isAlive,
  must,
  type ProcessRecord,
  run,
  startTime,
  unifiedHierarchy,
} from "./process.ts";
import { loadState } from "./state.ts";
import { BRIDGE, BRIDGE_MAC } from "./underlay.ts";
import { waitFor } from "./wait.ts";

const TWO_HOSTS = [
  { name: "prepared", address: "198.51.100.2", suite: "bookworm", image: "prepared" },
  { name: "bare", address: "198.51.100.3", suite: "trixie", image: "bare" },
] as const;

/** All processes that live in one of the lab's network namespaces, those of its hosts included. */
function processesOf(lab: Lab): ProcessRecord[] {
  const nodes = [lab.state.namespace, ...lab.state.nodes.map((node) => node.namespace)];
  const hosts = lab.state.hosts.map((host) => `/proc/${containerInit(host.cgroup)}/ns/net`);
  const inodes = new Set(
    [...nodes.map((name) => `/run/netns/${name}`), ...hosts].map((path) => Deno.statSync(path).ino),
  );
  assertEquals(
    inodes.size,
    nodes.length + hosts.length,
    "everyone must have a network namespace of their own",
  );
  return [...Deno.readDirSync("/proc")].map((entry) => Number(entry.name)).flatMap((pid) => {
    try {
      const inside = pid > 0 && inodes.has(Deno.statSync(`/proc/${pid}/ns/net`).ino);
      return inside ? [{ pid, startTime: startTime(pid) ?? 0 }] : [];
    } catch {
      return [];
    }
  });
}

Deno.test("lab: hosts behave like real ones, and nothing is left", async (test) => {
  await ensurePackages();
  const name = "selftest";
  await down(name);
  const processes: ProcessRecord[] = [];
  await withLab(name, TWO_HOSTS, async (lab) => {
    processes.push(...processesOf(lab));
    await test.step("ssh: both hosts are what was ordered", () => checkHosts(lab));
    await test.step("world: answers by name and tells the client's address", () => checkWorld(lab));
    await test.step("exec: a signal hits the host's own process", () => checkSignal(lab));
    await test.step("reboot: the host comes back with its network and its files", () => checkReboot(lab));
    await test.step("kill: power cut, files survive, the host starts again", () =>
      expectPowerCut(lab, "bare"));
    await test.step("world: a bare host installs packages from it", () => checkPackages(lab));
    await test.step("scanPorts: finds the SSH server and nothing else", () => checkScan(lab));
    await test.step("sendFrame, capture: a frame arrives as it was sent", () => checkFrames(lab));
    await test.step("addClient: a WireGuard client reaches a host", () => checkClient(lab));
    await test.step("addGuest: a guest is bridged to a host's link", () => checkGuest(lab));
    await test.step("openLab: another process finds the same lab", () => checkOpen(lab));
    await test.step("removeHost: nothing of it runs any longer", () => lab.removeHost("bare"));
    processes.push(...processesOf(lab));
  });
  assertEquals(traces(name), []);
  assert(processes.length > 20, `a lab of two hosts has more than ${processes.length} processes`);
  assertEquals(processes.filter(isAlive), []);
});

async function checkHosts(lab: Lab): Promise<void> {
  const show =
    '. /etc/os-release; echo "$VERSION_CODENAME $(uname -n)"; command -v ovs-vsctl || echo no switch';
  assertEquals((await lab.ssh("prepared", show)).stdout, "bookworm prepared\n/usr/bin/ovs-vsctl\n");
  assertEquals((await lab.ssh("bare", show)).stdout, "trixie bare\nno switch\n");
  const state = await lab.ssh("prepared", "systemctl is-system-running --wait; pgrep -l ovs");
  assertEquals(state.stdout, "running\n");
}

async function checkWorld(lab: Lab): Promise<void> {
  assertMatch(
    await must(lab.world.enter(["ip", "-br", "link", "show", BRIDGE])),
    new RegExp(` ${BRIDGE_MAC} `),
  );
  assertMatch((await lab.exec("bare", ["getent", "hosts", "www.world.example"])).stdout, /^203\.0\.113\.80 /);
  const get = "exec 3<>/dev/tcp/www.world.example/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
  assertMatch((await lab.exec("bare", ["bash", "-c", get])).stdout, /\r\n198\.51\.100\.3\n$/);
}

/** `kill` is built into shells: one that runs outside of the host's PID namespace would hit the machine. */
async function checkSignal(lab: Lab): Promise<void> {
  const told = await lab.exec("prepared", [
    "sh",
    "-c",
    "systemd-run --quiet --unit=victim sleep 600; systemctl show --value --property=MainPID victim",
  ]);
  const pid = told.stdout.trim();
  assertMatch(pid, /^[1-9]\d*$/);
  assertEquals(await lab.exec("prepared", ["kill", "-0", pid]), { code: 0, stdout: "", stderr: "" });
  assertEquals((await lab.exec("prepared", ["kill", "-9", pid])).code, 0);
  await waitFor(
    "the process's end",
    async () => (await lab.exec("prepared", ["kill", "-0", pid])).code !== 0,
  );
}

async function checkReboot(lab: Lab): Promise<void> {
  await expectReboot(lab, "prepared");
  assertEquals((await lab.ssh("prepared", "ping -c 1 -W 2 198.51.100.3")).code, 0);
}

async function checkPackages(lab: Lab): Promise<void> {
  const packages =
    "openvswitch-switch wireguard-tools wireguard-go nftables dnsmasq-base iproute2 iputils-ping ethtool kmod";
  const install =
    `export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y --no-install-recommends install ${packages}`;
  const result = await lab.ssh("bare", install);
  assertEquals(result.code, 0, result.stderr);
  assertEquals((await lab.ssh("bare", "command -v nft wg ovs-vsctl")).code, 0);
}

async function checkScan(lab: Lab): Promise<void> {
  const { ports, others } = await scanPorts(lab.world, "198.51.100.2", { tcp: "1-2000" });
  assertEquals(ports, [{ port: 22, protocol: "tcp", state: "open" }]);
  assertEquals(others, { closed: 1999 });
}

async function checkFrames(lab: Lab): Promise<void> {
  const frame = {
    to: "ff:ff:ff:ff:ff:ff",
    from: "02:00:00:00:00:01",
    type: 0x88b5,
    payload: new Uint8Array(100).fill(7),
  };
  const seen = await capture(lab, lab.network("bare"), "host0", "ether proto 0x88b5");
  await sendFrame(lab.network("prepared"), "host0", frame);
  await sendFrame(lab.network("prepared"), "host0", { ...frame, vlan: 5 });
  await waitFor("the frame", () => seen.frames().length > 0);
  assertEquals((await seen.stop())[0], frame);
}

async function checkClient(lab: Lab): Promise<void> {
  const [host, client] = [await keyPair(), await keyPair()];
  const server = [
    "setsid wireguard-go wg-test </dev/null >/dev/null 2>&1",
    "wg setconf wg-test /dev/stdin",
    "ip address add 10.31.0.2/16 dev wg-test",
    "ip link set wg-test up",
    "ip route add 10.30.128.0/17 dev wg-test",
  ].join(" && ");
  const config = `[Interface]\nPrivateKey = ${host.privateKey}\nListenPort = 51820\n` +
    `[Peer]\nPublicKey = ${client.publicKey}\nAllowedIPs = 10.30.128.1/32\n`;
  assertEquals((await lab.ssh("prepared", server, { stdin: config })).code, 0);
  const place = await addClient(lab, {
    name: "admin",
    address: "198.51.100.240",
    tunnelAddress: "10.30.128.1",
    privateKey: client.privateKey,
    peer: { publicKey: host.publicKey, address: "198.51.100.2" },
    resolver: "10.31.0.2",
  });
  assertEquals((await place.exec(["ping", "-c", "1", "-W", "5", "10.31.0.2"])).code, 0);
  assertEquals((await place.exec(["cat", "/etc/resolv.conf"])).stdout, "nameserver 10.31.0.2\n");
}

async function keyPair(): Promise<{ privateKey: string; publicKey: string }> {
  const privateKey = (await must(["wg", "genkey"])).trim();
  return { privateKey, publicKey: (await must(["wg", "pubkey"], { stdin: privateKey })).trim() };
}

async function checkGuest(lab: Lab): Promise<void> {
  const pair =
    "ip link add veth_fac0 type veth peer name far; ip link set far up; ip address add 10.31.0.9/16 dev far";
  assertEquals((await lab.exec("bare", ["sh", "-c", pair])).code, 0);
  const guest = await addGuest(lab, "bare", { name: "vm", address: "10.31.200.7/16" });
  assertEquals((await guest.exec(["ping", "-c", "1", "-W", "2", "10.31.0.9"])).code, 0);
}

async function checkOpen(lab: Lab): Promise<void> {
  const other = openLab(lab.state.name);
  assertEquals((await other.exec("bare", ["uname", "-n"], { env: { LC_ALL: "C" } })).stdout, "bare\n");
  const path = await writeInventory(other, { extraWires: { "10.30.128.1": "key" } });
  assertMatch(await Deno.readTextFile(path), /198\.51\.100\.3:\n\s+host_id: 3\n\s+hostname: bare\n/);
}

Deno.test("down: removes a lab whose maker was killed in the middle", async () => {
  const name = "selftest-killed";
  await down(name);
  const script = new URL("../../scripts/lab.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", script, "up", "--lab", name, "one=198.51.100.2", "two=198.51.100.3"],
    stdout: "null",
    stderr: "null",
  }).spawn();
  await waitFor(
    "the first host to be switched on",
    () => loadState(name)?.hosts.some((host) => host.process !== undefined),
  );
  child.kill("SIGKILL");
  await child.status;
  assert(traces(name).length > 0, "a killed maker leaves its lab");
  await down(name);
  assertEquals(traces(name), []);
});

/** A hundred who join a group one after the other, from outside, and would stay for a minute. */
const JOINERS =
  'for turn in $(seq 100); do ( { echo 0 >"$1/cgroup.procs"; } 2>/dev/null && exec sleep 60 ) & done; wait';

Deno.test("endGroup: ends who joins while the group is being ended", async () => {
  const cgroup = `${unifiedHierarchy()}/selftest-${crypto.randomUUID()}`;
  await Deno.mkdir(cgroup);
  const joiners = run(["sh", "-c", JOINERS, "sh", cgroup]);
  await waitFor("somebody to be in the group", () => groupMembers(cgroup).length > 0, { intervalMs: 1 });
  await endGroup(cgroup, "the test");
  assertEquals((await joiners).code, 0);
  assertEquals(groupMembers(cgroup), []);
});

Deno.test("withLab: removes the lab on SIGTERM", async () => {
  const name = "selftest-signal";
  await down(name);
  const program = `import { withLab } from "${new URL("lab.ts", import.meta.url)}";
    const hosts = [{ name: "one", address: "198.51.100.2" }];
    await withLab("${name}", hosts, () => new Promise((resolve) => setTimeout(resolve, 60_000)));`;
  const child = new Deno.Command(Deno.execPath(), { args: ["eval", program], stdout: "null", stderr: "null" })
    .spawn();
  await waitFor("the host to be switched on", () => loadState(name)?.hosts[0]?.process);
  child.kill("SIGTERM");
  assertEquals((await child.status).code, 130);
  assertEquals(traces(name), []);
});

Deno.test("up: leaves nothing when a host cannot be made", async () => {
  const name = "selftest-failed";
  await down(name);
  const files = { "/etc/hostname/is-a-file": "" };
  let message = "";
  try {
    const lab = await up(name, [
      { name: "broken", address: "198.51.100.2", files },
      { name: "sound", address: "198.51.100.3" },
    ]);
    await lab.down();
  } catch (error) {
    message = String(error);
  }
  assertMatch(message, /Not a directory|File exists/);
  assertEquals(traces(name), []);
});

Deno.test("printJournals: shows every host's journal", async () => {
  await withLab("selftest-journal", [{ name: "one", address: "198.51.100.2" }], async (lab) => {
    const lines: string[] = [];
    const print = console.error;
    console.error = (line: string) => lines.push(line);
    try {
      await printJournals(lab, 5);
    } finally {
      console.error = print;
    }
    assertMatch(lines.join("\n"), /journal of one\n.+/);
  });
});
