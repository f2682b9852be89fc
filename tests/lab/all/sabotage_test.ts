/**
 * What is wrong with a host, or put wrong by somebody else while it is activated, is noticed, and the host is back by itself: at once
 * where the activation itself fails, else when its time is over. Needs root and the lab's packages.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { expectAsBefore } from "../host_picture.ts";
import { writeInventory } from "../inventory.ts";
import type { CommandResult, Lab } from "../lab.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { ask, snapshot } from "../snapshot.ts";
import { waitFor } from "../wait.ts";
import { type Before, expectOneNetwork, generation, rememberBefore, TRIO } from "../trio.ts";

/** Seconds: so long that nothing but a failure can be why a host is back. */
const NEVER = 900;
/** Seconds: long enough for an activation on a busy machine. */
const SOON = 20;

const { proof } = setStage<Before>({ name: "sabotage", hosts: TRIO, prepare: rememberBefore });

async function push(lab: Lab, { program }: Before, confirmSeconds: number): Promise<CommandResult> {
  const timeout = ["--confirm-timeout", String(confirmSeconds)];
  return await mobula(lab, { executable: program }, "push", "--no-reboot", ...timeout);
}

async function uninstall(lab: Lab, { program }: Before, host: string): Promise<void> {
  expectCode(await mobula(lab, { executable: program }, "uninstall", "--limit", host), 0, "uninstall");
}

async function expectBaseline(lab: Lab, { network }: Before, host: string): Promise<void> {
  await expectAsBefore(lab, host, { part: "network", before: network.get(host)!, deadlineMs: 10_000 });
  expectCode(await lab.ssh(host, "true"), 0, `ssh to ${host}`);
  assertEquals((await lab.exec(host, ["test", "-e", "/opt/mobula/armed.json"])).code, 1, `${host} is armed`);
}

/** While the work goes on, a program of the host's is out of order: it fails where its arguments hold the word. */
async function withBrokenProgram<T>(
  lab: Lab,
  { host, program, word }: { readonly host: string; readonly program: string; readonly word: string },
  work: () => Promise<T>,
): Promise<T> {
  const script = `#!/bin/sh\ncase " $* " in *" ${word} "*) echo sabotaged >&2; exit 1 ;; esac\n` +
    `PATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${program} "$@"\n`;
  const argv = ["sh", "-euc", 'cat >"$1"; chmod 755 "$1"', "sh", `/usr/local/sbin/${program}`];
  expectCode(await lab.exec(host, argv, { stdin: script }), 0, "the sabotage");
  try {
    return await work();
  } finally {
    await ask(lab, host, ["rm", `/usr/local/sbin/${program}`]);
  }
}

const DROP_IN = "/etc/systemd/system/mobula.service.d";

/** While the work goes on, a shell command runs on the host whenever the network has just been brought up. */
async function withSpoiledUp(
  lab: Lab,
  { host, command }: { readonly host: string; readonly command: string },
  work: () => Promise<void>,
): Promise<void> {
  const script = 'mkdir -p "$1"; cat >"$1/spoil"; chmod 755 "$1/spoil"; ' +
    'printf "[Service]\\nExecStartPost=/bin/sh %s/spoil\\n" "$1" >"$1/sabotage.conf"';
  const done = await lab.exec(host, ["sh", "-euc", script, "sh", DROP_IN], { stdin: `${command}\n` });
  expectCode(done, 0, "the sabotage");
  try {
    await work();
  } finally {
    // The host goes back with the drop-in still there: nothing of it starts our unit.
    await ask(lab, host, ["rm", "-r", DROP_IN]);
  }
}

/** A disk that was cloned from another machine, say. */
const BASELINE_OF_ANOTHER = {
  schema: 1,
  interface: "eth99",
  mac: "02:00:00:00:00:99",
  mtu: 1500,
  addresses: ["198.51.100.4/24"],
  routes: [{ family: "inet", destination: "default", via: "198.51.100.254", protocol: "static" }],
  resolvers: [],
  search: [],
  resolvConf: { text: "nameserver 198.51.100.253\n" },
  sshPort: 22,
  managers: [],
};

proof(
  "an activation that fails, and a card that does not exist: both are back at once, the third is done",
  async (lab, before) => {
    const write = ["sh", "-euc", 'mkdir -p "${1%/*}"; cat >"$1"', "sh", "/opt/mobula/baseline.json"];
    const written = await lab.exec("gamma", write, { stdin: JSON.stringify(BASELINE_OF_ANOTHER) });
    expectCode(written, 0, "the baseline");
    const broken = { host: "beta", program: "ethtool", word: "tx" };
    const pushed = await withBrokenProgram(lab, broken, () => push(lab, before, NEVER));
    expectCode(pushed, 1, "the sabotaged push");
    assertMatch(pushed.stdout, /^ {2}. alpha \(id 2\): installed/m);
    assertMatch(
      pushed.stdout,
      /✗ beta \(id 3\) failed in activate:\n.*set veth_fac0 tx checksum off[^]*so the host went back to the network of before/,
    );
    assertMatch(
      pushed.stdout,
      /✗ gamma \(id 4\) failed in activate:\n.*no link has the address 02:00:00:00:00:99 \(it was called eth99\)[^]*goes back to the network of before at once/,
    );
    await expectBaseline(lab, before, "beta");
    await expectBaseline(lab, before, "gamma");
    expectCode(await push(lab, before, NEVER), 0, "the push after it");
    await expectOneNetwork(lab);
  },
);

proof("an update that fails on one host: that one is back at once, as it was", async (lab, before) => {
  const [confirmed, old] = [await generation(lab, "beta"), await snapshot(lab, "beta")];
  const others = await generation(lab, "alpha");
  await writeInventory(lab, { extraWires: { "10.30.200.1": old.publicKey.replace(/^..../, "abcd") } });
  const broken = { host: "beta", program: "wg", word: "addconf" };
  const pushed = await withBrokenProgram(lab, broken, async () => {
    const pushed = await push(lab, before, NEVER);
    await expectReturned(lab, "beta", confirmed);
    return pushed;
  });
  expectCode(pushed, 1, "the push that fails on beta");
  const told = new RegExp(
    `✗ beta \\(id 3\\) failed in activate:\\n[^]*sabotaged[^]*goes back to generation ${confirmed} at once`,
  );
  assertMatch(pushed.stdout, told);
  assertEquals(await generation(lab, "alpha"), others + 1);
  assertEquals((await snapshot(lab, "beta")).peers.size, old.peers.size);
  await expectOneNetwork(lab);
  expectCode(await push(lab, before, NEVER), 0, "the push after it");
  await expectOneNetwork(lab);
});

async function expectReturned(lab: Lab, host: string, wanted: number): Promise<void> {
  await waitFor(`${host} to be back`, async () => {
    assertEquals(await generation(lab, host), wanted);
    assertEquals((await lab.exec(host, ["test", "-e", "/opt/mobula/armed.json"])).code, 1, "still armed");
    return true;
  });
}

const SPOILS = [
  {
    what: "a wrong key",
    command:
      "wg genkey >/run/spoil.key; ip netns exec mobula wg set mo-wg-gw private-key /run/spoil.key; rm /run/spoil.key",
  },
  {
    what: "a wrong MTU",
    command: "ip -n mobula link set host0 mtu 68; ip -n mobula link set mo-ext-gw mtu 68",
  },
];

for (const { what, command } of SPOILS) {
  proof(
    `${what}: nobody can confirm the host, so it goes back to the network of before`,
    async (lab, before) => {
      await uninstall(lab, before, "beta");
      await expectBaseline(lab, before, "beta");
      await withSpoiledUp(lab, { host: "beta", command }, async () => {
        const pushed = await push(lab, before, SOON);
        expectCode(pushed, 1, `the push with ${what}`);
        assertMatch(
          pushed.stdout,
          /✗ beta \(id 3\) failed in (activate|confirm):\n[^]*went back to the network of before/,
        );
        assertMatch(pushed.stdout, /^ {2}. alpha \(id 2\): (updated|nothing to change)/m);
        await expectBaseline(lab, before, "beta");
      });
      expectCode(await push(lab, before, SOON), 0, "the push after the repair");
      await expectOneNetwork(lab);
    },
  );
}
