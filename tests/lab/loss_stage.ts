/**
 * What the tests of losses have in common: three hosts with a first push, pushes with probes beside, and when new keys are settled.
 */
import { assertEquals } from "@std/assert";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { Lab, LabHost } from "./lab.ts";
import { lossDuring } from "./loss.ts";
import { allInnerAddresses, unreached } from "./probes.ts";
import { expectCode, mobula } from "./proof.ts";
import { snapshot } from "./snapshot.ts";
import { waitForPaths } from "./switching.ts";
import { TRIO } from "./trio.ts";

export const NAMES = TRIO.map(({ name }) => name);

/** What the first push leaves. */
export interface Before {
  readonly program: string;
}

/** Makes the first push. */
export async function prepare(lab: Lab): Promise<Before> {
  const program = await executable("compiled");
  await writeInventory(lab);
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the first push");
  await waitForPaths(lab, NAMES);
  return { program };
}

function members(lab: Lab, names: readonly string[] = NAMES): LabHost[] {
  return names.map((name) => lab.host(name));
}

/** What is lost between the named hosts while they are pushed to. */
export async function lossOfPush(
  lab: Lab,
  program: string,
  names: readonly string[],
  ...args: readonly string[]
) {
  const { result, losses } = await lossDuring(lab, members(lab, names), async () => {
    return await mobula(lab, { executable: program }, "push", "--no-reboot", ...args);
  });
  expectCode(result, 0, `push ${args.join(" ")}`);
  return losses;
}

/** The key that each host uses. */
export async function publicKeys(lab: Lab): Promise<Record<string, string>> {
  const keys = await Promise.all(NAMES.map(async (name) => [name, (await snapshot(lab, name)).publicKey]));
  return Object.fromEntries(keys);
}

/** Every host knows every other one by one key, the one it uses, and nothing is under way any more. */
export async function expectSettled(lab: Lab): Promise<void> {
  const keys = await publicKeys(lab);
  for (const name of NAMES) {
    const { peers } = await snapshot(lab, name);
    const others = NAMES.filter((other) => other !== name).map((other) => keys[other]!);
    assertEquals([...peers.keys()].sort(), others.sort(), name);
    const script = "ls /opt/mobula/keys.json 2>/dev/null; systemctl is-active mobula-follow.service";
    assertEquals((await lab.exec(name, ["sh", "-c", script])).stdout.trim(), "inactive", name);
    assertEquals(await unreached(lab.network(name), allInnerAddresses(members(lab))), [], name);
  }
}
