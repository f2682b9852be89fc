/**
 * An older and a newer version of the executable in one network, one generation apart. Needs root and the lab's packages.
 */
import { assertEquals } from "@std/assert";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import { expectNoLoss, expectShortGap } from "../loss.ts";
import { type Before, expectSettled, lossOfPush, NAMES, prepare } from "../loss_stage.ts";
import { setStage } from "../proof.ts";
import { ask } from "../snapshot.ts";
import { LOSS_HOSTS as HOSTS } from "../updates.ts";

const { proof } = setStage<Before>({ name: "versions", hosts: HOSTS, prepare });

proof(
  "two versions in one network: nothing is lost between them, and then all get new keys as gently",
  async (lab, { program }) => {
    const next = await executable("compiled", "0.2.0-next");
    expectNoLoss(await lossOfPush(lab, next, NAMES, "--limit", "alpha"));
    const versions = await Promise.all(
      NAMES.map((name) => ask(lab, name, ["/opt/mobula/bin/mobula", "--version"])),
    );
    assertEquals(versions.map((text) => text.includes("0.2.0-next")), [true, false, false]);
    await writeInventory(lab, { extraHosts: { "10.31.200.2": "scanner.example" } });
    expectNoLoss(await lossOfPush(lab, next, NAMES, "--limit", "alpha"));
    expectNoLoss(await lossOfPush(lab, program, NAMES, "--limit", "beta,gamma"));
    await writeInventory(lab, { vars: { mobula_keys: "rotate" } });
    expectShortGap(await lossOfPush(lab, next, NAMES));
    await expectSettled(lab);
  },
);
