/**
 * Two pushes at once: the second is refused with who, where and since when, and has touched nothing; a push that was killed does not
 * stand in the way. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
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
    return { executable: await executable("compiled") };
  },
});

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

async function expectNoLock(lab: Lab): Promise<void> {
  for (const { name } of HOSTS) {
    assertEquals((await lab.exec(name, ["sh", "-c", "ls /run/mobula | grep push"])).stdout, "", name);
  }
}

proof(
  "two pushes at once: the second is refused and the first does not notice",
  async (lab, { executable }) => {
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
    assertEquals((await first.process.status).code, 0, first.said());
    await expectNoLock(lab);
  },
);

proof("plan and verify are not refused, and the push after it finds no lock", async (lab, { executable }) => {
  await writeInventory(lab, { extraHosts: { "10.31.200.1": "printer.example" } });
  const first = startPush(lab, executable);
  await waitFor("the first push to lock", () => /alpha: (lock|copy|prepare|stage)/.test(first.said()), {
    deadlineMs: 60_000,
    intervalMs: 10,
  });
  const asked = await Promise.all([
    mobula(lab, { executable }, "plan"),
    mobula(lab, { executable }, "verify"),
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
