/** Files, then steps; services are told of changed files, as long as they owe it, and only while they run. */
import { assert, assertEquals } from "@std/assert";
import { modesOf, planHost, planTitles, type SeenHost } from "../../lib/host/plan.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { blankSeen, fleetOf, inputFor, seenOf } from "../net/fixtures.ts";

const input = inputFor(fleetOf([2, 3]), 2, "userspace", { managers: ["networkd", "NetworkManager"] });
const RESOLVED = { resolvConf: { link: "../run/systemd/resolve/stub-resolv.conf" } };

/** A host on which everything is as wanted. */
function finished(of = input): SeenHost {
  return {
    network: seenOf(wantedNetwork(of)),
    files: new Map(renderFiles(of).map(({ path, content }) => [path, content])),
    modes: new Map(modesOf(of).map(({ path, mode }) => [path, { mode, owner: "0:0" }])),
    pending: new Set(),
    enabled: true,
  };
}

/** The same, but for one file. */
function without(path: string, of = input): SeenHost {
  const seen = finished(of);
  return { ...seen, files: new Map([...seen.files, [path, "another text\n"]]) };
}

Deno.test("planHost: nothing to do on a finished host", () => {
  const plan = planHost(input, finished());
  assertEquals(planTitles(plan), []);
  assertEquals(plan.reloads, []);
});

Deno.test("planHost: everything on a blank host, the network between the units and the managers", () => {
  const seen = {
    network: blankSeen(input),
    files: new Map(),
    modes: new Map(),
    pending: new Set<never>(),
    enabled: false,
  };
  const plan = planHost(input, seen);
  assertEquals(plan.files, renderFiles(input));
  assertEquals(plan.before.map(({ title }) => title), [
    "reload systemd's units",
    "reload udev's rules",
    "enable mobula.service",
  ]);
  assert(plan.network.length > 30);
  assertEquals(plan.after.map(({ title }) => title), ["restart systemd-networkd", "reload NetworkManager"]);
});

const CHANGES: Record<string, readonly string[]> = {
  "/opt/mobula/etc/hosts": ["let dnsmasq read the names again"],
  "/opt/mobula/etc/dnsmasq.conf": ["restart dnsmasq"],
  "/opt/mobula/bin/run-heal": [],
  "/etc/systemd/system/mobula-ovsdb.service": ["reload systemd's units"],
  "/etc/udev/rules.d/70-mobula-nic.rules": ["reload udev's rules"],
  "/etc/systemd/network/00-mobula-nic.network": ["reload systemd-networkd"],
  "/etc/systemd/networkd.conf.d/90-mobula.conf": ["restart systemd-networkd"],
  "/etc/NetworkManager/conf.d/90-mobula.conf": ["reload NetworkManager"],
};

for (const [path, titles] of Object.entries(CHANGES)) {
  Deno.test(`planHost: ${path} has changed`, () => {
    assertEquals(planTitles(planHost(input, without(path))), [`write ${path}`, ...titles]);
  });
}

Deno.test("planHost: resolved's drop-in has changed", () => {
  const other = inputFor(fleetOf([2, 3]), 2, "userspace", RESOLVED);
  const path = "/etc/systemd/resolved.conf.d/90-mobula.conf";
  assertEquals(planTitles(planHost(other, without(path, other))), [
    `write ${path}`,
    "restart systemd-resolved",
  ]);
});

Deno.test("planHost: a dnsmasq that does not run yet is started, not told", () => {
  const seen = without("/opt/mobula/etc/hosts");
  const activeUnits = seen.network.activeUnits.filter((unit) => unit !== "mobula-dnsmasq.service");
  const plan = planHost(input, { ...seen, network: { ...seen.network, activeUnits } });
  assertEquals(planTitles(plan), ["write /opt/mobula/etc/hosts", "start mobula-dnsmasq.service"]);
});

Deno.test("planHost: what an earlier run still owes is done", () => {
  const plan = planHost(input, { ...finished(), pending: new Set(["systemd", "dnsmasq-names"] as const) });
  assertEquals(planTitles(plan), ["reload systemd's units", "let dnsmasq read the names again"]);
  assertEquals(plan.reloads, ["systemd", "dnsmasq-names"]);
});

Deno.test("planHost: a profile that confines dnsmasq is told of our files", () => {
  const local = "/etc/apparmor.d/local/usr.sbin.dnsmasq";
  const confined = [["/etc/apparmor.d/usr.sbin.dnsmasq", "profile"], [local, "# mine\n"]] as const;
  const seen = finished();
  const plan = planHost(input, { ...seen, files: new Map([...seen.files, ...confined]) });
  assertEquals(planTitles(plan), [`write ${local}`, "reload dnsmasq's AppArmor profile"]);
  const again = new Map([...seen.files, ...confined, [local, plan.files[0]!.content!]] as const);
  assertEquals(planTitles(planHost(input, { ...seen, files: again })), []);
});

Deno.test("planHost: a card that has lost its MTU at a boot gets it again", () => {
  const jumbo = inputFor(fleetOf([2, 3]), 2, "kernel", { mtu: 9000 });
  const blank = blankSeen(jumbo);
  const seen = {
    network: { ...blank, links: blank.links.map((link) => ({ ...link, mtu: 1500 })) },
    files: new Map(),
    modes: new Map(),
    pending: new Set<never>(),
    enabled: false,
  };
  const nic = planHost(jumbo, seen).network.find(({ title }) => title.startsWith("set enp1s0"));
  assertEquals(nic?.argv, ["ip", "link", "set", "enp1s0", "mtu", "9000", "master", "mo-ext-gw", "up"]);
});

Deno.test("planHost: modes and owners that somebody has changed, also of the key and the executable", () => {
  const seen = finished();
  const key = [...seen.modes.keys()].find((path) => path.endsWith(".key"))!;
  const modes = new Map([
    ...seen.modes,
    [key, { mode: 0o644, owner: "0:0" }] as const,
    ["/opt/mobula/bin/mobula", { mode: 0o4755, owner: "0:0" }] as const,
    ["/opt/mobula/etc/hosts", { mode: 0o600, owner: "1000:1000" }] as const,
  ]);
  const plan = planHost(input, { ...seen, modes });
  assertEquals(planTitles(plan).sort(), [
    "give /opt/mobula/etc/hosts back to root",
    `set mode of ${key} from 644 to 600`,
    "set mode of /opt/mobula/bin/mobula from 4755 to 755",
    "set mode of /opt/mobula/etc/hosts from 600 to 644",
  ]);
  assert(plan.before.some(({ argv }) => argv.join(" ") === `chmod 600 ${key}`));
});

Deno.test("planHost: a file that is written anew needs no step for its mode", () => {
  const seen = without("/opt/mobula/bin/run-heal");
  const modes = new Map([
    ...seen.modes,
    ["/opt/mobula/bin/run-heal", { mode: 0o600, owner: "0:0" }] as const,
  ]);
  assertEquals(planTitles(planHost(input, { ...seen, modes })), ["write /opt/mobula/bin/run-heal"]);
});

Deno.test("modesOf: a word in place of a key is no path", () => {
  const hosts = input.config.hosts.map((host) => ({ ...host, publicKey: "(new key; of alpha)" }));
  const paths = modesOf({ ...input, config: { ...input.config, hosts } }).map(({ path }) => path);
  assertEquals(paths.filter((path) => !/^[\w./-]+$/.test(path)), []);
});
