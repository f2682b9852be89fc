/**
 * Two pushes at once: the second is refused with who, where and since when, and has touched nothing; a push that was killed does not
 * stand in the way. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { LOCK_FILE } from "../../lib/host/paths.ts";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { waitFor } from "./wait.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
];

const { proof } = setStage<{ readonly executable: string }>({
  name: "lock",
  hosts: HOSTS,
  prepare: async (lab) => {
    await writeInventory(lab);
    await bringFleet(lab, "alpha");
    return { executable: await executable("compiled") };
  },
});

/** The fleet's files as `install --local` wants them. */
async function bringFleet(lab: Lab, host: string): Promise<void> {
  const put = ["sh", "-euc", 'mkdir -p "${1%/*}"; cat >"$1"', "sh"];
  for (const file of ["hosts.yml", "extra_hosts.yml", "extra_wires.yml", "wireguard_pubkeys.yml"]) {
    const stdin = await Deno.readTextFile(`${lab.directory}/${file}`).catch(() => undefined);
    // The public keys are there after the first push.
    if (stdin === undefined) continue;
    expectCode(await lab.exec(host, [...put, `/root/fleet/${file}`], { stdin }), 0, file);
  }
}

/** A push that goes on by itself. */
interface Running {
  readonly process: Deno.ChildProcess;
  readonly said: () => string;
}

function startPush(lab: Lab, program: string): Running {
  const log = `${lab.directory}/running.log`;
  Deno.writeTextFileSync(log, "");
  const argv = [program, "push", "--verbose", "--no-reboot", "--ssh-config", lab.sshConfig];
  const [command = "", ...args] = lab.deployer.enter(["sh", "-c", 'exec "$@" >"$0" 2>&1', log, ...argv]);
  const env = { HOME: lab.directory, USER: "admin", NO_COLOR: "1" };
  const process = new Deno.Command(command, { args, cwd: lab.directory, stdin: "null", env }).spawn();
  return { process, said: () => Deno.readTextFileSync(log) };
}

/** Who changes the host waits until it is released, and so does not come to an end before what is asked meanwhile. */
async function holdHost(lab: Lab, host: string) {
  const [held, release] = ["/run/held", "/run/go-on"];
  const script =
    `mkdir -p "\${0%/*}"; exec flock "$0" sh -c '>${held}; until [ -e ${release} ]; do sleep 0.1; done'`;
  const holder = lab.exec(host, ["sh", "-c", script, LOCK_FILE]);
  await waitFor(`${host} to be held`, async () => (await lab.exec(host, ["test", "-e", held])).code === 0);
  return {
    release: async () => {
      await lab.exec(host, ["touch", release]);
      assertEquals((await holder).code, 0);
      await lab.exec(host, ["rm", held, release]);
    },
  };
}

async function expectNoLock(lab: Lab): Promise<void> {
  for (const { name } of HOSTS) {
    assertEquals((await lab.exec(name, ["sh", "-c", "ls /run/mobula | grep push"])).stdout, "", name);
  }
}

proof(
  "two pushes at once: the second is refused and the first does not notice",
  async (lab, { executable }) => {
    const held = await holdHost(lab, "alpha");
    const first = startPush(lab, executable);
    const begun = () =>
      HOSTS.every(({ name }) => first.said().includes(`${name}: - `) && first.said().includes("prepare"));
    await waitFor(`the first push to prepare`, begun, { deadlineMs: 120_000, intervalMs: 20 });
    const second = await mobula(lab, { executable }, "push", "--no-reboot");
    expectCode(second, 5, "the second push");
    const owner =
      `admin@\\S+ \\(process ${first.process.pid}, ${lab.directory}/hosts.yml\\), since 20\\d\\d-\\S+Z`;
    assertMatch(
      second.stderr,
      new RegExp(`another push is under way: ${owner}; found on alpha.*Nothing was touched`),
    );
    const owned = new RegExp(`Cannot (un)?install: a push is under way: ${owner}; expected none`);
    for (const argv of [["install", "--local", "/root/fleet"], ["uninstall", "--local"]]) {
      const refused = await lab.exec("alpha", ["/opt/mobula/bin/mobula", ...argv]);
      expectCode(refused, 5, argv.join(" "));
      assertMatch(refused.stderr, owned);
    }
    await held.release();
    assertEquals((await first.process.status).code, 0, first.said());
    await expectNoLock(lab);
  },
);

proof("install --local under way: a push is refused and told so", async (lab, { executable }) => {
  await bringFleet(lab, "alpha");
  const argv = ["/opt/mobula/bin/mobula", "install", "--local", "/root/fleet"];
  const held = await holdHost(lab, "alpha");
  const installing = lab.exec("alpha", argv);
  const locked = async () => (await lab.exec("alpha", ["test", "-s", "/run/mobula/push.lock"])).code === 0;
  await waitFor("the installation to lock", locked, { intervalMs: 10 });
  const refused = await mobula(lab, { executable }, "push", "--no-reboot");
  await held.release();
  expectCode(refused, 5, "the push");
  assertMatch(
    refused.stderr,
    /another push is under way: root@alpha \(process \d+, \/root\/fleet\/hosts\.yml\), since 20/,
  );
  expectCode(await installing, 0, "install --local");
  await expectNoLock(lab);
});

proof("plan and verify are not refused, and the push after it finds no lock", async (lab, { executable }) => {
  await writeInventory(lab, { extraHosts: { "10.31.200.1": "printer.example" } });
  const first = startPush(lab, executable);
  await waitFor("the first push to lock", () => /alpha: (lock|copy|prepare|stage)/.test(first.said()), {
    deadlineMs: 60_000,
    intervalMs: 10,
  });
  const asked = await Promise.all([
    mobula(lab, { executable }, "plan"),
    mobula(lab, { executable }, "verify", "--wait", "60"),
  ]);
  assert([0, 4].includes(asked[0]!.code), asked[0]!.stderr);
  expectCode(asked[1]!, 0, "verify");
  assertEquals((await first.process.status).code, 0, first.said());
  expectCode(await mobula(lab, { executable }, "push"), 0, "the push after it");
  await expectNoLock(lab);
});

proof("kill -9 of a push: the next one takes over, and says so", async (lab, { executable }) => {
  await writeInventory(lab, { extraHosts: { "10.31.200.2": "scanner.example" } });
  const first = startPush(lab, executable);
  await waitFor("the first push to verify", () => /verify all pairs/.test(first.said()), {
    deadlineMs: 120_000,
    intervalMs: 10,
  });
  first.process.kill("SIGKILL");
  await first.process.status;
  const second = await mobula(lab, { executable }, "push", "--verbose");
  expectCode(second, 0, "the push after the kill");
  const note = new RegExp(
    `took over the lock of a push that has died: admin@\\S+ \\(process ${first.process.pid}, `,
  );
  assertMatch(`${second.stdout}${second.stderr}`, note);
  await expectNoLock(lab);
  expectCode(await mobula(lab, { executable }, "uninstall"), 0, "uninstall");
  for (const { name } of HOSTS) {
    assertEquals((await lab.exec(name, ["ls", "-d", "/run/mobula"])).stdout, "", name);
  }
});
