/**
 * An activation that nobody confirms is taken back by the host itself: whatever was killed, rebooted or sabotaged, the host answers at
 * its external address again, with the network of before or of the generation before. Needs root and the lab's packages.
 */
import { assert, assertMatch } from "@std/assert";
import { expectAsBefore } from "./host_picture.ts";
import type { CommandResult, Lab } from "./lab.ts";
import { expectCode, KILL_ALL, killedPush as killPush, mobula, setStage } from "./proof.ts";
import { must } from "./process.ts";
import { ask } from "./snapshot.ts";
import { DEPLOYER } from "./underlay.ts";
import { waitFor } from "./wait.ts";
import { parseConnection } from "../../lib/host/context.ts";
import { type Before, expectOneNetwork, generation, rememberBefore, TRIO } from "./trio.ts";

const NAMES = TRIO.map(({ name }) => name);

/** Seconds: enough for an activation on a busy machine. */
const TIMEOUT = 20;
/** Milliseconds from the end of that time until the host has to be back. */
const RETURN = 30_000;

const { proof } = setStage<Before>({ name: "armed", hosts: TRIO, prepare: rememberBefore });

async function push(lab: Lab, { program }: Before, ...args: readonly string[]): Promise<CommandResult> {
  const timeout = ["--confirm-timeout", String(TIMEOUT)];
  return await mobula(lab, { executable: program }, "push", "--no-reboot", ...timeout, ...args);
}

async function expectBaseline(lab: Lab, { network }: Before, names: readonly string[], deadlineMs: number) {
  await Promise.all(
    names.map((name) =>
      expectAsBefore(lab, name, { part: "network", before: network.get(name)!, deadlineMs })
    ),
  );
  for (const name of names) expectCode(await lab.ssh(name, "true"), 0, `ssh to ${name}`);
}

/** Nothing is armed any more, and what is current is confirmed. */
async function expectConfirmed(lab: Lab, host: string): Promise<void> {
  const script =
    "cat /opt/mobula/state.json; ls /opt/mobula/armed.json 2>&1; systemctl is-active mobula-rollback.timer";
  const { stdout } = await lab.exec(host, ["sh", "-c", script]);
  assertMatch(stdout, new RegExp(`"installed"[^]*"generation": ${await generation(lab, host)}\\n`), host);
  assertMatch(stdout, /No such file[^]*inactive/, host);
}

/** A machine without power says no goodbye: first the cable. */
async function cutPower(lab: Lab, host: string): Promise<void> {
  await must(["ip", "-n", lab.state.namespace, "link", "delete", `vb-${host}`]);
  await lab.kill(host);
}

/** A push of which nothing is left from one moment to the next; ends when it has said so much. */
async function killedPush(lab: Lab, { program }: Before, last: readonly string[], args: readonly string[]) {
  await killPush(lab, program, last, ["--no-reboot", "--confirm-timeout", String(TIMEOUT), ...args]);
}

const SABOTEUR = `table inet sabotage {
  chain input {
    type filter hook input priority 0;
    iifname "mo-dir-hs" tcp dport 22 drop
  }
}
`;

/** Kills what configures the network as soon as the external interface has been taken away. */
async function killUp(lab: Lab, host: string): Promise<void> {
  const script = "until ip -n mobula link show host0 >/dev/null 2>&1; do sleep 0.05; done; " +
    "systemctl kill --signal=KILL mobula.service";
  expectCode(await lab.exec(host, ["timeout", "90", "sh", "-c", script]), 0, "the kill");
}

proof(
  "sabotage: hosts that cannot be reached go back and are named, the other one is done",
  async (lab, before) => {
    await lab.exec("beta", ["nft", "-f", "-"], { stdin: SABOTEUR });
    const killed = killUp(lab, "gamma");
    const pushed = await push(lab, before);
    await killed;
    expectCode(pushed, 1, "the sabotaged push");
    assertMatch(pushed.stdout, /^ {2}. alpha \(id 2\): installed/m);
    const silent = `nobody confirmed it within ${TIMEOUT} s`;
    const reasons = { beta: silent, gamma: "what configured the network was killed" };
    for (const [name, reason] of Object.entries(reasons)) {
      const told =
        `✗ ${name} \\(id \\d\\) failed in activate:\\n.*${reason}, so the host went back to the network of before;`;
      assertMatch(pushed.stdout, new RegExp(told));
    }
    await ask(lab, "beta", ["nft", "delete", "table", "inet", "sabotage"]);
    await expectBaseline(lab, before, ["beta", "gamma"], 5_000);
    await expectConfirmed(lab, "alpha");
    // What tells one connection from another: a confirmation over the one that activated is refused.
    const { stdout } = await lab.ssh("alpha", 'echo "$SSH_CONNECTION"');
    assertMatch(parseConnection(stdout.trim()) ?? "", new RegExp(`^${DEPLOYER} \\d+ `));
  },
);

proof(
  "deployer and all of ours killed right after the first activation, and a reboot in its middle",
  async (lab, before) => {
    expectCode(await mobula(lab, { executable: before.program }, "uninstall"), 0, "uninstall");
    await expectBaseline(lab, before, NAMES, 10_000);
    await killedPush(lab, before, NAMES.map((name) => `${name}: - wait for the network`), []);
    const killed = await waitFor("processes of ours on beta to be killed", async () => {
      return (await ask(lab, "beta", ["sh", "-c", KILL_ALL])).match(/^\d+$/mg);
    }, { intervalMs: 20 });
    assert(killed.length > 0);
    await waitFor("the interface of gamma to be moved", async () => {
      return (await lab.exec("gamma", ["ip", "-n", "mobula", "link", "show", "host0"])).code === 0;
    }, { intervalMs: 50 });
    await cutPower(lab, "gamma");
    const began = performance.now();
    await lab.start("gamma");
    await expectBaseline(lab, before, ["gamma"], 20_000);
    await expectBaseline(lab, before, ["alpha", "beta"], TIMEOUT * 1000 + RETURN);
    assert(performance.now() - began < TIMEOUT * 1000 + RETURN);
    expectCode(await push(lab, before, "--limit", "alpha,beta"), 0, "the push without --reinstall");
    expectCode(await push(lab, before, "--reinstall"), 0, "the push that repairs the interrupted one");
    await expectOneNetwork(lab);
  },
);
