/**
 * Long outages: the underlay of everybody, and a fleet in two halves. Each lasts a minute; then the whole mesh has to be back without a
 * command. Three hosts; needs root and the lab's packages.
 */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import { whileBroadcasting } from "../broadcasts.ts";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab } from "../lab.ts";
import { unreached, waitForAnswers } from "../probes.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { cutHosts, mendPaths, waitForPaths, waitForUse } from "../switching.ts";
import { TRIO } from "../trio.ts";
import { pause } from "../wait.ts";

const NAMES = TRIO.map(({ name }) => name);
/** Milliseconds that an outage lasts, and in which everybody has to be back. */
const OUTAGE = 60_000;
const RETURN = 20_000;

const { proof } = setStage<{ readonly program: string }>({ name: "outages", hosts: TRIO, prepare });

async function prepare(lab: Lab) {
  const program = await executable("compiled");
  await mendPaths(lab);
  await writeInventory(lab, { vars: { mobula_access: "none" } });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  return { program };
}

function gateways(lab: Lab, names: readonly string[] = NAMES): string[] {
  return names.map((name) => hostAddresses(lab.host(name).id).gateway);
}

for (
  const [title, gone, whole] of [
    ["all of the underlay is gone for a minute", NAMES, []],
    ["the fleet is in two halves for a minute", ["alpha"], ["beta", "gamma"]],
  ] as const
) {
  proof(`${title}: the whole mesh is back without a command, no frame twice`, async (lab, { program }) => {
    await mendPaths(lab);
    await waitForPaths(lab, NAMES);
    await waitForUse(lab, NAMES);
    await cutHosts(lab, ...gone);
    await pause(OUTAGE);
    for (const name of whole) {
      assertEquals(await unreached(lab.network(name, "mobula"), gateways(lab, whole)), [], `${name}'s half`);
    }
    const { twice } = await whileBroadcasting(lab, "alpha", ["beta", "gamma"], async () => {
      await mendPaths(lab);
      const began = performance.now();
      await Promise.all(NAMES.flatMap((name) => awaitMesh(lab, name)));
      console.log(`  everybody is back after ${Math.round(performance.now() - began)} ms`);
      await waitForPaths(lab, NAMES);
    });
    assertEquals(twice, 0, "no loop");
    expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan after it");
  });
}

/** The host's gateway reaches all others', and the host every other one by the intrawire. */
function awaitMesh(lab: Lab, name: string): Promise<void>[] {
  const wires = NAMES.filter((other) => other !== name).map((other) =>
    hostAddresses(lab.host(other).id).intrawire
  );
  return [
    waitForAnswers(`the mesh, from ${name}`, () => lab.network(name, "mobula"), gateways(lab), RETURN),
    waitForAnswers(`the intrawire, from ${name}`, () => lab.network(name), wires, RETURN),
  ];
}
