/**
 * What updates cost: nothing between hosts that they do not concern, and new keys for the whole fleet next to nothing; also where the
 * executables of the hosts differ. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab } from "../lab.ts";
import { expectNoLoss, expectShortGap } from "../loss.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { type Before, expectSettled, lossOfPush, NAMES, prepare, publicKeys } from "../loss_stage.ts";
import { ask } from "../snapshot.ts";
import { TRIO } from "../trio.ts";
import { UPDATES, withClientKey } from "../updates.ts";

/** The version after the present one. */
const NEXT = "0.2.0-next";

const { proof } = setStage<Before>({ name: "loss", hosts: TRIO, prepare });

for (const { what, change, probed = NAMES } of UPDATES) {
  proof(`push with ${what}: no packet is lost between the others`, async (lab, { program }) => {
    if (change) await writeInventory(lab, await withClientKey(change, program));
    expectNoLoss(await lossOfPush(lab, program, probed));
  });
}

proof(
  "new keys for all: no pair is without an answer for longer than the limit",
  async (lab, { program }) => {
    await writeInventory(lab, { vars: { mobula_keys: "rotate" } });
    const before = await publicKeys(lab);
    const losses = await lossOfPush(lab, program, NAMES);
    expectShortGap(losses);
    const after = await publicKeys(lab);
    for (const name of NAMES) assertNotEquals(after[name], before[name], name);
    await expectSettled(lab);
    await writeInventory(lab);
    const again = await mobula(lab, { executable: program }, "push", "--json");
    expectCode(again, 0, "the push after it");
    const { hosts } = JSON.parse(again.stdout) as { hosts: { steps: string[]; changed_files: string[] }[] };
    for (const { steps, changed_files } of hosts) assertEquals([steps, changed_files], [[], []]);
    assert(hosts.length === NAMES.length);
  },
);

/** Of each version, the hosts that have it. */
const VERSIONS = { next: ["alpha"], present: ["beta", "gamma"] } as const;

for (const { what, change, probed = NAMES } of UPDATES) {
  proof(`two versions in one network, and ${what}: no packet is lost`, async (lab, { program }) => {
    const next = await executable("compiled", NEXT);
    if (change) await writeInventory(lab, await withClientKey(change, program));
    const members = (names: readonly string[]) =>
      names.filter((name) => change?.hosts?.includes(name) ?? true).join(",");
    // In this order the others hear of a key that comes back.
    if (members(VERSIONS.next) !== "") {
      expectNoLoss(await lossOfPush(lab, next, probed, "--limit", members(VERSIONS.next)));
    }
    expectNoLoss(await lossOfPush(lab, program, probed, "--limit", members(VERSIONS.present)));
    assertEquals(await versions(lab), [true, false, false]);
  });
}

/** Which hosts have the next version. */
async function versions(lab: Lab): Promise<boolean[]> {
  const texts = await Promise.all(
    NAMES.map((name) => ask(lab, name, ["/opt/mobula/bin/mobula", "--version"])),
  );
  return texts.map((text) => text.includes(NEXT));
}

proof("two versions in one network: all get the next one and new keys as gently", async (lab) => {
  await writeInventory(lab, { vars: { mobula_keys: "rotate" } });
  expectShortGap(await lossOfPush(lab, await executable("compiled", NEXT), NAMES));
  assertEquals(await versions(lab), [true, true, true]);
  await expectSettled(lab);
});
