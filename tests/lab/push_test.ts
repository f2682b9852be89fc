/**
 * Pushes of the self-unpacking executable to two hosts: what it is, what travels, keys and what keeps them, the report for programs.
 * Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { executable } from "./executables.ts";
import { type InventoryOptions, writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask, snapshot } from "./snapshot.ts";
import { must } from "./process.ts";
import { expectOneNetwork } from "./trio.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie", image: "bare" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
];

/** What may travel to a host, in bytes, and what the rest of a push may need beside it. */
const EXECUTABLE_LIMIT = 45e6;
const TALK_LIMIT = 3e6;

interface Pushed {
  readonly program: string;
  readonly report: Report;
  /** Bytes that left the deployer. */
  readonly sent: number;
}

/** What `push --json` prints, as far as it is looked at here. */
interface Report {
  readonly ok: boolean;
  readonly exit_code: number;
  readonly hosts: readonly HostReport[];
}

interface HostReport {
  readonly hostname: string;
  readonly newly_installed: boolean;
  readonly executable_sent: boolean;
  readonly rebooted: boolean;
  readonly public_key: string;
  readonly changed_files: readonly string[];
  readonly steps: readonly string[];
}

const { proof } = setStage<Pushed>({ name: "push", hosts: HOSTS, prepare });

async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("self-unpacking");
  await writeFleet(lab);
  const before = await sentBytes(lab);
  const report = await push(lab, program, "--no-reboot");
  return { program, report, sent: await sentBytes(lab) - before };
}

/** Without `mobula_keys: keep`: every push makes new keys. */
async function writeFleet(lab: Lab, options: InventoryOptions = {}): Promise<void> {
  await writeInventory(lab, { vars: { mobula_keys: "rotate" }, ...options });
}

/** Pushes and reads the report, which is all that standard output may hold. */
async function push(lab: Lab, program: string, ...args: readonly string[]): Promise<Report> {
  const result = await mobula(lab, { executable: program }, "push", "--json", ...args);
  expectCode(result, 0, `push ${args.join(" ")}`);
  return JSON.parse(result.stdout);
}

async function sentBytes(lab: Lab): Promise<number> {
  const argv = ["ip", "-s", "-j", "link", "show", "eth0"];
  return JSON.parse(await must(lab.deployer.enter(argv)))[0].stats64.tx.bytes;
}

proof(
  "push of the self-unpacking executable: two hosts are one network, live, without a reboot",
  async (lab, { report }) => {
    assertEquals(
      report.hosts.map(({ hostname, newly_installed, executable_sent, rebooted }) => [
        hostname,
        newly_installed,
        executable_sent,
        rebooted,
      ]),
      [["alpha", true, true, false], ["beta", true, true, false]],
    );
    for (const name of ["alpha", "beta"]) {
      assertMatch(await ask(lab, name, ["/opt/mobula/bin/mobula", "--version"]), /\(self-unpacking, /);
    }
    await expectOneNetwork(lab);
  },
);

proof("push: no more than the packed executable travels, once to each host", (_lab, { sent }) => {
  assert(sent > 2 * 10e6, `${sent} bytes`);
  assert(sent < 2 * EXECUTABLE_LIMIT + TALK_LIMIT, `${sent} bytes`);
  return Promise.resolve();
});

proof("push again: new keys on every host, and nothing is sent", async (lab, { program, report }) => {
  const before = await sentBytes(lab);
  const again = await push(lab, program);
  assert(await sentBytes(lab) - before < TALK_LIMIT);
  for (const [index, host] of again.hosts.entries()) {
    assertEquals([host.executable_sent, host.newly_installed, host.rebooted], [false, false, false]);
    assertNotEquals(host.public_key, report.hosts[index]!.public_key);
    assertEquals((await snapshot(lab, host.hostname)).publicKey, host.public_key);
  }
  await expectOneNetwork(lab);
});

proof(
  "push --keep-keys, push --limit: the keys stay, and nothing is to be done",
  async (lab, { program }) => {
    const { hosts } = await push(lab, program, "--keep-keys");
    for (const { changed_files, steps } of hosts) assertEquals([changed_files, steps], [[], []]);
    const limited = await push(lab, program, "--limit", "beta");
    assertEquals(limited.hosts.map(({ public_key }) => public_key), [hosts[1]!.public_key]);
  },
);

proof("keys: lists what the hosts use", async (lab, { program }) => {
  const listed = await mobula(lab, { executable: program }, "keys", "--json");
  expectCode(listed, 0, "keys");
  const own = await Promise.all(["alpha", "beta"].map(async (name) => (await snapshot(lab, name)).publicKey));
  for (const key of own) assert(listed.stdout.includes(key), listed.stdout);
});

proof("keys pinned in hosts.yml: used as given, never rotated", async (lab, { program }) => {
  const pair = JSON.parse(await must([program, "keys", "generate", "--json"]));
  await writeFleet(lab, { hostVars: { beta: { wireguard: pair } } });
  for (const _ of ["first", "second"]) {
    const { hosts } = await push(lab, program);
    assertEquals(hosts[1]!.public_key, pair.public_key);
    assertEquals((await snapshot(lab, "beta")).publicKey, pair.public_key);
    await expectOneNetwork(lab);
  }
});

proof("push --reinstall: installs again and reboots", async (lab, { program }) => {
  const { hosts } = await push(lab, program, "--reinstall");
  assertEquals(hosts.map(({ newly_installed, rebooted }) => [newly_installed, rebooted]), [[true, true], [
    true,
    true,
  ]]);
  await expectOneNetwork(lab);
});
