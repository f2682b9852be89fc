/**
 * A boot and a repair in which something does not work: the path of SSH comes up all the same, the failure is named, and the repair after
 * its cause is gone completes it. On a stand-in of a host.
 */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { HostError } from "../../lib/errors.ts";
import { ACTIVATION_FILE, CAPABILITIES_FILE, KEYS_FILE } from "../../lib/host/paths.ts";
import { up } from "../../lib/host/up.ts";
import { GIVEN_BACK_FILE } from "../../lib/render/restore_nic.ts";
import { type Bench, bench } from "../fake/bench.ts";
import type { Call, FakeHost } from "../fake_host.ts";
import type { Activation } from "../../lib/host/up.ts";

/** Something on the host that does not work, and what is left undone by it. */
interface Fault {
  readonly what: string;
  /** Before the boot. */
  readonly spoil?: (bench: Bench) => void;
  readonly fails: (call: Call) => boolean;
  readonly left: RegExp;
}

const RESOLV = "/etc/resolv.conf";

const FAULTS: readonly Fault[] = [
  {
    what: "an immutable resolv.conf",
    spoil: ({ host }) => host.files.set(RESOLV, "nameserver 192.0.2.1\n"),
    fails: ({ what }) => what === `write ${RESOLV}`,
    left: /^half: write \/etc\/resolv\.conf$/,
  },
  {
    what: "daemons that do not start",
    fails: ({ what }) => what.includes("/start-units"),
    left: /start mobula-ovsdb\.service/,
  },
  {
    what: "settings that the kernel does not take",
    fails: ({ what }) => what.includes("/proc/sys/"),
    left: /set net\.ipv4/,
  },
  { what: "no ovs-vsctl", fails: ({ what }) => what.startsWith("ovs-vsctl"), left: /switch/ },
  {
    what: "no wg",
    fails: ({ what }) => what.includes("wg set") || what.includes("wg addconf"),
    left: /WireGuard/,
  },
  { what: "flows that cannot be loaded", fails: ({ what }) => what.includes("/load-flows"), left: /flows/ },
  { what: "no tc", fails: ({ what }) => what.includes("/load-shortcut"), left: /intrawire/ },
];

function activationOf(host: FakeHost): Activation | undefined {
  return host.json<Activation>(ACTIVATION_FILE);
}

/** Whether the card is in the gateway, with the external address, and the host behind it. */
function answersSsh({ host: { network } }: Bench): boolean {
  const has = (scope: string, name: string) =>
    network.links.some((link) => link.scope === scope && link.name === name && link.up);
  return has("mobula", "enp1s0") && has("mobula", "mo-ext-gw") && has("mobula", "mo-dir-gw") &&
    has("root", "mo-dir-hs") && network.loaded.has("firewall") &&
    network.routes.some(({ scope, destination, device }) =>
      scope === "root" && destination === "default" && device === "mo-dir-hs"
    );
}

for (const { what, spoil, fails, left } of FAULTS) {
  Deno.test(`boot with ${what}: SSH answers, the rest is named, and a repair completes it`, async () => {
    await bench({}, async (bench) => {
      const { host, time } = bench;
      spoil?.(bench);
      host.fate = (call) => fails(call) ? "fail" : "done";
      await host.reboot();
      assert(answersSsh(bench), await host.standing());
      assertMatch(await host.standing(), left);
      assertMatch(activationOf(host)?.error ?? "", /Cannot bring everything up: .*the host answers SSH/s);
      host.fate = undefined;
      await host.process("up", (context) => up(context));
      await time.pause(1_000_000);
      assertEquals([await host.standing(), activationOf(host)?.status], ["generation 1", "done"]);
    });
  });
}

Deno.test("boot with keys that are none: they count as none", async () => {
  await bench({}, async ({ host }) => {
    for (const text of ["", "half a fi", "[1]", '{"schema":1,"hosts":{"2":["x"]}}']) {
      host.files.set(KEYS_FILE, text);
      await host.reboot();
      assertEquals(activationOf(host), { status: "done" }, text);
      host.files.delete(KEYS_FILE);
      assertEquals(await host.standing(), "generation 1", text);
    }
  });
});

/** What a power cut, a full disk or somebody's hand may leave of a file. */
const BROKEN = ["", "half a fi", '{"sch', "[]", "null", "\0\0\0\0"] as const;

for (
  const file of ["config.json", "baseline.json", "capabilities.json", "state.json", "files.json"] as const
) {
  Deno.test(`boot with a broken ${file}: SSH answers`, async () => {
    for (const text of BROKEN) {
      await bench({}, async (bench) => {
        const { host, deployer } = bench;
        await deployer.push({ fleet: { extraHosts: [{ address: "10.31.200.1", hostname: "a.example" }] } });
        const folder = file === "config.json" || file === "files.json"
          ? "/opt/mobula/generations/2"
          : "/opt/mobula";
        assert(host.files.has(`${folder}/${file}`), `${folder}/${file}`);
        host.files.set(`${folder}/${file}`, text);
        await host.reboot();
        assert(answersSsh(bench), `${JSON.stringify(text)}: ${JSON.stringify(activationOf(host))}`);
      });
    }
  });
}

Deno.test("boot without any configuration: the card has its addresses", async () => {
  await bench({}, async ({ host }) => {
    for (const path of [...host.files.keys()].filter((path) => path.endsWith("/config.json"))) {
      host.files.set(path, "half a fi");
    }
    await host.reboot();
    const card = host.network.links.find(({ name }) => name === "enp1s0")!;
    assertEquals([card.scope, card.up, card.addresses.length > 0], ["root", true, true]);
    assertMatch(activationOf(host)?.error ?? "", /no generation and baseline/);
  });
});

Deno.test("boot in which the path of SSH itself fails: the card goes back to the host, until the next boot or push", async () => {
  await bench({}, async (bench) => {
    const { host, deployer } = bench;
    host.fate = ({ what }) => what.includes("/load-firewall") ? "fail" : "done";
    await host.reboot();
    assertMatch(activationOf(host)?.error ?? "", /The network card is as it was before mobula/);
    const card = host.network.links.find(({ name }) => name === "enp1s0")!;
    assertEquals([card.scope, card.up, card.addresses.length > 0], ["root", true, true]);
    // A repair of this boot does not take it again.
    host.fate = undefined;
    assertEquals(await host.process("up", (context) => up(context)), []);
    assertEquals(host.network.links.find(({ name }) => name === "enp1s0")!.scope, "root");
    assert(host.files.has(GIVEN_BACK_FILE));
    await host.reboot();
    assertEquals(await host.standing(), "generation 1");
    // So does a push.
    host.files.set(GIVEN_BACK_FILE, "a reason\n");
    await deployer.push({ fleet: { extraHosts: [{ address: "10.31.200.1", hostname: "other.example" }] } });
    assertEquals([await host.standing(), host.files.has(GIVEN_BACK_FILE)], ["generation 2", false]);
  });
});

Deno.test("up: a repair takes nothing away from a network that runs", async () => {
  await bench({}, async (bench) => {
    const { host } = bench;
    host.network.loaded.delete("firewall");
    host.fate = ({ what }) => what.includes("/load-firewall") ? "fail" : "done";
    await assertRejects(
      () => host.process("up", (context) => up(context)),
      Error,
      "load the gateway's firewall",
    );
    assertEquals(host.network.links.find(({ name }) => name === "enp1s0")!.scope, "mobula");
    host.fate = undefined;
    await host.process("up", (context) => up(context));
    assertEquals(await host.standing(), "generation 1");
  });
});

Deno.test("up: a repair that was killed does not make an activation of the next one", async () => {
  await bench({}, async ({ host }) => {
    host.files.set(ACTIVATION_FILE, '{"status":"running"}\n');
    host.files.set(RESOLV, "nameserver 192.0.2.1\n");
    host.fate = ({ what }) => what === `write ${RESOLV}` ? "fail" : "done";
    await assertRejects(
      () => host.process("up", (context) => up(context)),
      HostError,
      "Cannot bring everything up",
    );
    assertEquals(host.current, 1);
  });
});

Deno.test("boot with a file that cannot be written: what it would be told to is not restarted for ever", async () => {
  await bench({}, async (bench) => {
    const { host } = bench;
    const file = "/opt/mobula/etc/dnsmasq.conf";
    host.files.set(file, "broken\n");
    let restarts = 0;
    host.fate = ({ what }) => {
      if (what === "systemctl restart mobula-dnsmasq.service") restarts++;
      return what === `write ${file}` ? "fail" : "done";
    };
    await host.reboot();
    assert(answersSsh(bench), await host.standing());
    assertEquals(restarts, 0);
    assertMatch(activationOf(host)?.error ?? "", /left: write \/opt\/mobula\/etc\/dnsmasq\.conf/);
    host.fate = undefined;
    await host.process("up", (context) => up(context));
    assertEquals(await host.standing(), "generation 1");
  });
});

for (
  const [what, kernel, wireguard, datapath] of [
    ["lost all modules", [], "userspace", "netdev"],
    ["lost geneve", ["wireguard", "openvswitch"], "kernel", "netdev"],
    ["lost WireGuard", ["geneve", "openvswitch"], "userspace", "system"],
  ] as const
) {
  Deno.test(`boot of a kernel that has ${what}: it gets the mode that it can do, and the one of before comes back`, async () => {
    await bench({}, async (bench) => {
      const { host } = bench;
      const all = host.kernel;
      assertEquals(host.json(CAPABILITIES_FILE), { wireguard: "kernel", datapath: "system" });
      host.kernel = kernel;
      await host.reboot();
      assert(answersSsh(bench), await host.standing());
      assertEquals([host.json(CAPABILITIES_FILE), await host.standing()], [
        { wireguard, datapath },
        "generation 1",
      ]);
      // A network that runs keeps its mode.
      host.kernel = all;
      await host.process("up", (context) => up(context));
      assertEquals(host.json(CAPABILITIES_FILE), { wireguard, datapath });
      await host.reboot();
      assertEquals([host.json(CAPABILITIES_FILE), await host.standing()], [
        { wireguard: "kernel", datapath: "system" },
        "generation 1",
      ]);
    });
  });
}
