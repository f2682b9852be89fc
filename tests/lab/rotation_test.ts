/**
 * New keys for the whole fleet, and what may go wrong meanwhile: at no time is a pair without a key, whoever fails or is killed, and
 * the next push completes it. Needs root and the lab's packages.
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { parse } from "@std/yaml";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { Lab } from "./lab.ts";
import { expectShortGap, lossDuring } from "./loss.ts";
import { allInnerAddresses, unreached, waitForAnswers } from "./probes.ts";
import { expectCode, killedPush, mobula, setStage } from "./proof.ts";
import { snapshot } from "./snapshot.ts";
import { waitFor } from "./wait.ts";
import { generation, TRIO } from "./trio.ts";

const NAMES = TRIO.map(({ name }) => name);

/** Seconds until a host goes back that nobody confirms. */
const TIMEOUT = 10;

/**
 * New keys are what is measured: a busy machine, on which a switch may wait long for a processor, shall not count as a dead path.
 * The loss test has the usual patience.
 */
const PATIENT = { mobula_bfd_interval: 300, mobula_bfd_multiplier: 4 };

/** Milliseconds without an answer: a pair without a key is silent for seconds. What new keys cost, `timed/loss_test` measures. */
const LIMIT = Deno.env.get("MOBULA_LAB_BUSY") === "1" ? 1000 : 200;

type Keys = Readonly<Record<string, string>>;

const { proof } = setStage<string>({ name: "rotation", hosts: TRIO, prepare });

async function prepare(lab: Lab): Promise<string> {
  const program = await executable("compiled");
  await writeInventory(lab, { vars: { mobula_keys: "rotate", ...PATIENT } });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the first push");
  return program;
}

async function publicKeys(lab: Lab): Promise<Keys> {
  const keys = await Promise.all(NAMES.map(async (name) => [name, (await snapshot(lab, name)).publicKey]));
  return Object.fromEntries(keys);
}

/** Every host knows every other one by the key it uses and by no other, nothing is under way, and all answer. */
async function expectSettled(lab: Lab): Promise<void> {
  const keys = await publicKeys(lab);
  for (const name of NAMES) {
    const others = NAMES.filter((other) => other !== name).map((other) => keys[other]!);
    assertEquals([...(await snapshot(lab, name)).peers.keys()].sort(), others.sort(), name);
    const follower = ["systemctl", "is-active", "mobula-follow.service"];
    await waitFor(`the follower of ${name} to end`, async () => {
      return (await lab.exec(name, follower)).stdout === "inactive\n";
    });
    assertEquals((await lab.exec(name, ["ls", "/opt/mobula/keys.json"])).code, 2, name);
    assertEquals(await unreached(lab.network(name), allInnerAddresses(lab.state.hosts)), [], name);
  }
  const file = parse(await Deno.readTextFile(`${lab.directory}/wireguard_pubkeys.yml`)) as {
    wireguard_pubkeys?: Keys;
  };
  const written = Object.values(file.wireguard_pubkeys ?? file as Keys);
  assertEquals(written.sort(), Object.values(keys).sort(), "wireguard_pubkeys.yml");
}

/** A push that runs to its end, and what it leaves. */
async function expectCompleted(lab: Lab, program: string, before: Keys): Promise<void> {
  const { result, losses } = await lossDuring(lab, lab.state.hosts, () => {
    return mobula(lab, { executable: program }, "push", "--no-reboot");
  });
  expectCode(result, 0, "the push that completes it");
  expectShortGap(losses, LIMIT);
  const after = await publicKeys(lab);
  for (const name of NAMES) assertNotEquals(after[name], before[name], name);
  await expectSettled(lab);
}

proof(
  "deployer killed when one host has its new key: all pairs go on, and the next push completes it",
  async (lab, program) => {
    const before = await publicKeys(lab);
    const generations = await Promise.all(NAMES.map((name) => generation(lab, name)));
    const { losses } = await lossDuring(lab, lab.state.hosts, () => {
      const said = ["alpha: - take the new WireGuard key"];
      return killedPush(lab, program, said, ["--no-reboot", "--confirm-timeout", String(TIMEOUT)]);
    });
    expectShortGap(losses, LIMIT);
    const back = async () => {
      const now = await Promise.all(NAMES.map((name) => generation(lab, name)));
      return now.join() === generations.join() &&
        JSON.stringify(await publicKeys(lab)) === JSON.stringify(before);
    };
    await waitFor("the rollback of all hosts", back, { deadlineMs: 90_000, intervalMs: 500 });
    for (const name of NAMES) {
      await waitForAnswers(
        `all pairs of ${name}`,
        () => lab.network(name),
        allInnerAddresses(lab.state.hosts),
        30_000,
      );
    }
    await expectCompleted(lab, program, before);
  },
);

proof(
  "a host that was rebooted in between finds the others, whichever key they use",
  async (lab, program) => {
    const before = await publicKeys(lab);
    await killedPush(lab, program, ["alpha: - take the new WireGuard key"], ["--no-reboot"]);
    await lab.reboot("gamma");
    const hosts = () => allInnerAddresses(lab.state.hosts);
    await waitForAnswers("gamma after its reboot", () => lab.network("gamma"), hosts(), 90_000);
    await expectCompleted(lab, program, before);
  },
);

proof("rollback: back to the keys of before, as gently", async (lab, program) => {
  const before = await publicKeys(lab);
  const { result, losses } = await lossDuring(lab, lab.state.hosts, () => {
    return mobula(lab, { executable: program }, "rollback");
  });
  expectCode(result, 0, "rollback");
  expectShortGap(losses, LIMIT);
  const after = await publicKeys(lab);
  for (const name of NAMES) assertNotEquals(after[name], before[name], name);
  await expectSettled(lab);
});
