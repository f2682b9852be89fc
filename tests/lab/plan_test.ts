/**
 * `mobula plan`: it changes nothing, is empty after a push, and names exactly what somebody has changed by hand; the push after it
 * repairs exactly that. Needs root and the lab's packages.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { innerMtus } from "../../lib/address.ts";
import { LIST_FLOWS } from "../../lib/net/seen.ts";
import { keyFile } from "../../lib/net/wireguard.ts";
import { executable } from "./executables.ts";
import { settledPicture } from "./host_picture.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask, snapshot } from "./snapshot.ts";
import { expectOneNetwork } from "./trio.ts";
import { waitFor } from "./wait.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm", image: "bare" },
];

/** Of alpha's card, and so of the fleet, bytes: less than any card has by itself. */
const UNDERLAY_MTU = 1400;

const { proof } = setStage<{ readonly program: string }>({
  name: "plan",
  hosts: HOSTS,
  prepare: async (lab) => {
    await writeInventory(lab);
    await ask(lab, "alpha", ["ip", "link", "set", "host0", "mtu", String(UNDERLAY_MTU)]);
    return { program: await executable("compiled") };
  },
});

/** What `plan --json` prints, as far as it is looked at here. */
interface PlannedHost {
  readonly hostname: string;
  readonly error: string | null;
  readonly send_executable: boolean | null;
  readonly packages: readonly string[];
  readonly new_generation: boolean;
  readonly files: readonly { readonly path: string }[];
  readonly steps: readonly { readonly title: string; readonly effect: string }[];
  readonly reboot: boolean;
}

/** What `push --json` prints, as far as it is looked at here. */
interface PushedHost {
  readonly hostname: string;
  readonly executable_sent: boolean;
  readonly packages_installed: readonly string[];
  readonly changed_files: readonly string[];
  readonly steps: readonly string[];
  readonly rebooted: boolean;
}

/** By host: what is to be done, or was done. */
type Todo = Readonly<Record<string, readonly string[]>>;

const NOTHING: Todo = { alpha: [], beta: [] };
const SEND = "send the executable";
const GENERATION = "write a new generation";
const REBOOT = "reboot the host";

async function plan(lab: Lab, program: string, code: number, ...args: readonly string[]): Promise<Todo> {
  const result = await mobula(lab, { executable: program }, "plan", "--json", ...args);
  expectCode(result, code, `plan ${args.join(" ")}`);
  return todoOf(result.stdout);
}

function todoOf(json: string): Todo {
  const { hosts } = JSON.parse(json) as { readonly hosts: readonly PlannedHost[] };
  return Object.fromEntries(
    hosts.map(({ hostname, send_executable, packages, new_generation, files, steps, reboot }) => [hostname, [
      ...(send_executable ? [SEND] : []),
      ...packages.map((name) => `install ${name}`),
      ...(new_generation ? [GENERATION] : []),
      ...files.map(({ path }) => `write ${path}`),
      ...steps.map(({ title }) => title),
      ...(reboot ? [REBOOT] : []),
    ]]),
  );
}

async function push(lab: Lab, program: string): Promise<Todo> {
  const result = await mobula(lab, { executable: program }, "push", "--json", "--no-reboot");
  expectCode(result, 0, "push");
  const { hosts } = JSON.parse(result.stdout) as { readonly hosts: readonly PushedHost[] };
  return Object.fromEntries(
    hosts.map((
      { hostname, executable_sent, packages_installed, changed_files, steps, rebooted },
    ) => [hostname, [
      ...(executable_sent ? [SEND] : []),
      ...packages_installed.map((name) => `install ${name}`),
      ...(changed_files.length > 0 ? [GENERATION] : []),
      ...steps,
      ...(rebooted ? [REBOOT] : []),
    ]]),
  );
}

/** All that a push may touch, with modes, owners and times. What the switch and its watchers write all the time is left out. */
const FILES = `
find /opt/mobula /etc /run/mobula /run/netns '(' -path /run/mobula/ovs/conf.db -o -path /run/mobula/paths ')' -prune -o -printf '%p %m %U:%G %s %T@ %l\\n' | sort
ls -d /opt/mobula /run/mobula /var/cache/mobula
ip -n mobula -o addr show | sed 's/ *valid_lft.*//'
ip -n mobula route show table all | grep -v 'proto 109'
ip -n mobula rule
ip netns exec mobula nft -a list ruleset
for what in public-key listen-port allowed-ips; do ip netns exec mobula wg show mo-wg-gw $what; done
ovs-vsctl --db=unix:/run/mobula/ovs/db.sock show
systemctl show --property=MainPID,ActiveEnterTimestamp 'mobula*'
exit 0
`;

/** Everything that a plan must leave alone, on the hosts and here. */
async function pictureOfAll(lab: Lab): Promise<Readonly<Record<string, unknown>>> {
  const hosts = await Promise.all(HOSTS.map(async ({ name }) => {
    const network = await settledPicture(lab, name, "network");
    const files = await lab.exec(name, ["sh", "-c", `export LC_ALL=C; exec 2>/dev/null\n${FILES}`]);
    return [name, [...network, ...files.stdout.split("\n")]];
  }));
  const pubkeys = await Deno.stat(`${lab.directory}/wireguard_pubkeys.yml`).catch(() => undefined);
  return { ...Object.fromEntries(hosts), pubkeys: pubkeys?.mtime?.getTime() };
}

/** `plan` and `push --dry-run` say the same, end with the code, and leave everything as it is. */
async function expectSameAndUntouched(lab: Lab, program: string, code: number): Promise<Todo> {
  let before = await pictureOfAll(lab);
  await waitFor("the hosts to stand still", async () => {
    const last = before;
    before = await pictureOfAll(lab);
    return JSON.stringify(before) === JSON.stringify(last);
  });
  const planned = await mobula(lab, { executable: program }, "plan", "--json");
  const dry = await mobula(lab, { executable: program }, "push", "--dry-run", "--json");
  assertEquals(await pictureOfAll(lab), before);
  expectCode(planned, code, "plan");
  expectCode(dry, code, "push --dry-run");
  assertEquals(dry.stdout, planned.stdout);
  for (const { name } of HOSTS) {
    const locks = await lab.exec(name, ["sh", "-c", "ls /run/mobula | grep push"]);
    assertEquals(locks.stdout, "", name);
  }
  return todoOf(planned.stdout);
}

proof(
  "plan and push --dry-run of new hosts: the same, exit code 4, nothing is changed",
  async (lab, value) => {
    const todo = await expectSameAndUntouched(lab, value.program, 4);
    for (const { name } of HOSTS) {
      const titles = todo[name]!;
      assertEquals([titles[0], titles.at(-1)], [SEND, REBOOT], name);
      assertEquals(titles.includes("move host0 into the gateway"), true, name);
      assertEquals(titles.includes("install openvswitch-switch"), name === "beta", name);
    }
    assertEquals(await Deno.stat(`${lab.directory}/wireguard_pubkeys.yml`).catch(() => "none"), "none");
  },
);

proof(
  "plan and push --dry-run after a push: nothing to do, exit code 0, nothing is changed",
  async (lab, value) => {
    await push(lab, value.program);
    assertEquals(await expectSameAndUntouched(lab, value.program, 0), NOTHING);
  },
);

proof(
  "plan: a host that is away or left out, and lost public keys, make no difference",
  async (lab, value) => {
    const { program } = value;
    assertEquals(await plan(lab, program, 0, "--limit", "beta"), { beta: [] });
    await ask(lab, "alpha", [
      "sh",
      "-c",
      "systemctl stop ssh.socket ssh.service 2>/dev/null; ! systemctl is-active -q ssh.service",
    ]);
    try {
      assertEquals(await plan(lab, program, 1), NOTHING);
    } finally {
      await ask(lab, "alpha", ["systemctl", "start", "ssh.service"]);
    }
    const pubkeys = `${lab.directory}/wireguard_pubkeys.yml`;
    await Deno.rename(pubkeys, `${pubkeys}.away`);
    try {
      assertEquals(await plan(lab, program, 0), NOTHING);
    } finally {
      await Deno.rename(`${pubkeys}.away`, pubkeys);
    }
  },
);

/** Something that an admin does by hand, and what repairs it. */
interface Drift {
  readonly what: string;
  readonly host: string;
  /** A shell script; `$1` is the host's own key, `$2` that of the other host, `$3` the file of the private key. */
  readonly byHand: string;
  readonly repairs: readonly string[];
}

const VSCTL = "ovs-vsctl --db=unix:/run/mobula/ovs/db.sock --timeout=5";
const { access } = innerMtus(UNDERLAY_MTU);

const DRIFTS: readonly Drift[] = [
  {
    what: "a table of the firewall is deleted",
    host: "beta",
    byHand: "ip netns exec mobula nft delete table inet mobula",
    repairs: ["load the gateway's firewall"],
  },
  {
    what: "a link has another MTU",
    host: "beta",
    byHand: "ip link set veth_fac0 mtu 1200",
    repairs: [`set veth_fac0 mtu ${access}`],
  },
  {
    what: "a rule is deleted",
    host: "beta",
    byHand: "ip rule del priority 10031",
    repairs: ["add rule to 10.30.0.0/16"],
  },
  {
    what: "a WireGuard peer is removed",
    host: "beta",
    byHand: 'ip netns exec mobula wg set mo-wg-gw peer "$2" remove',
    repairs: ["set WireGuard peer alpha"],
  },
  {
    what: "a file is edited",
    host: "beta",
    byHand: "echo '# by hand' >>/opt/mobula/etc/dnsmasq.conf",
    repairs: ["write /opt/mobula/etc/dnsmasq.conf", "restart dnsmasq"],
  },
  {
    what: "what the next boot starts from is edited",
    host: "beta",
    byHand: 'sed -i \'s/"access": "auto"/"access": "none"/\' /opt/mobula/current/config.json',
    repairs: [GENERATION],
  },
  {
    what: "everybody may read the private key",
    host: "beta",
    byHand: 'chmod 644 "$3"',
    repairs: ["set mode of $3 from 644 to 600"],
  },
  {
    what: "the name server is stopped",
    host: "alpha",
    byHand: "systemctl stop mobula-dnsmasq.service",
    repairs: ["start mobula-dnsmasq.service"],
  },
  {
    what: "a port of the tree is deleted",
    host: "alpha",
    byHand: `${VSCTL} del-port mo-t-3`,
    repairs: ["add switch port mo-t-3", "load the switch's flows"],
  },
  {
    what: "the database tells the switch to wait",
    host: "alpha",
    byHand: `${VSCTL} set Open_vSwitch . other_config:flow-restore-wait=true`,
    repairs: ["let the switch carry again"],
  },
  {
    what: "the executable is overwritten",
    host: "alpha",
    // In its place, as a package manager does it: a session of the plan before may still be about to end.
    byHand: "cd /opt/mobula/bin; echo 'exit 0' >other; chmod 700 other; mv other mobula",
    repairs: [SEND],
  },
  {
    what: "the card has another MTU",
    host: "alpha",
    byHand: "ip -n mobula link set host0 mtu 1380",
    repairs: [`set host0 mtu ${UNDERLAY_MTU} in mobula`],
  },
];

/** Changes the host by hand; gives what repairs it. */
async function drift(lab: Lab, { host, byHand, repairs }: Drift): Promise<readonly string[]> {
  const [own, other] = await Promise.all(
    [host, host === "alpha" ? "beta" : "alpha"].map(async (name) => (await snapshot(lab, name)).publicKey),
  ) as [string, string];
  const words = [own, other, keyFile(own)];
  await ask(lab, host, ["sh", "-euc", byHand, "sh", ...words]);
  return repairs.map((title) => title.replace("$3", keyFile(own)));
}

function sorted(todo: Todo): Todo {
  return Object.fromEntries(Object.entries(todo).map(([host, titles]) => [host, [...titles].sort()]));
}

proof(
  "plan after changes by hand: names each of them and nothing else, and the push repairs just these",
  async (lab, { program }) => {
    let expected = NOTHING;
    let planned = NOTHING;
    for (const one of DRIFTS) {
      const repairs = await drift(lab, one);
      expected = { ...expected, [one.host]: [...expected[one.host]!, ...repairs] };
      planned = await plan(lab, program, 4);
      assertEquals(sorted(planned), sorted(expected), one.what);
    }
    assertEquals(await push(lab, program), planned);
    assertEquals(await plan(lab, program, 0), NOTHING);
    // The port that was made again has another number: the flows have to know it.
    assertMatch(await ask(lab, "alpha", ["sh", "-c", LIST_FLOWS]), /output:"mo-t-3"/);
    await expectOneNetwork(lab);
  },
);

proof(
  "plan after the access link was deleted: names it and what hangs on it, and the push makes it again",
  async (lab, { program }) => {
    await ask(lab, "beta", ["ip", "link", "del", "veth_fac0"]);
    const planned = await plan(lab, program, 4);
    assertEquals(planned.alpha, []);
    for (const title of planned.beta!) assertMatch(title, /veth_fac0|mo-fac-ovs|^load the switch's flows$/);
    assertEquals(await push(lab, program), planned);
    assertEquals(await plan(lab, program, 0), NOTHING);
    await expectOneNetwork(lab);
  },
);

proof(
  "plan when nobody gets in any more: names the host, and the host itself repairs it",
  async (lab, { program }) => {
    await ask(lab, "beta", ["nft", "flush", "table", "ip", "mobula"], "mobula");
    const result = await mobula(lab, { executable: program }, "plan");
    expectCode(result, 1, "plan");
    assertMatch(result.stdout, /✗ beta \(id 3\) failed in connect/);
    assertMatch(result.stdout, /✓ alpha \(id 2\): nothing to do/);
    await ask(lab, "beta", ["/opt/mobula/bin/mobula", "up"]);
    await waitFor(
      "the plan to be empty",
      async () => (await mobula(lab, { executable: program }, "plan")).code === 0,
    );
  },
);
