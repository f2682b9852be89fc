/** Proofs that the network heals with the kernel's datapath: flows deleted by hand on each release, and the intrawire past a cut path. */
import { hostAddresses } from "../../lib/address.ts";
import type { Lab } from "../lab/lab.ts";
import { waitForAnswers } from "../lab/probes.ts";
import { cutPaths, mendPaths, ofctl, waitForPaths } from "../lab/switching.ts";
import { waitFor } from "../lab/wait.ts";
import { MACHINES, NAMES, NETWORK_DEADLINE_MS, onHost, type Proof } from "./stage.ts";

export function declareRepairs(proof: Proof): void {
  proof("flows: deleted by hand on each release, they are back without a command", async (lab) => {
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
    for (const name of MACHINES) {
      await ofctl(lab, name, "del-flows");
      const gateways = NAMES.map((other) => hostAddresses(lab.host(other).id).gateway);
      const began = performance.now();
      await waitForAnswers(
        `everybody, from ${name}`,
        () => lab.network(name, "mobula"),
        gateways,
        NETWORK_DEADLINE_MS,
      );
      console.log(`  ${name}: back after ${Math.round(performance.now() - began)} ms`);
    }
    await Promise.all(MACHINES.map(async (name) => {
      await onHost(lab, name, "/opt/mobula/bin/mobula up");
      await onHost(lab, name, "test -e /run/mobula/flows.listing");
    }));
  });

  proof("intrawire: a pair's path is cut: it goes over the access network, and back", async (lab) => {
    const [one, other] = MACHINES;
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
    const { intrawire } = hostAddresses(lab.host(other).id);
    const reach = (what: string) =>
      waitForAnswers(what, () => lab.network(one), [intrawire], NETWORK_DEADLINE_MS);
    await reach("the wire");
    try {
      await cutPaths(lab, [one, other], [other, one]);
      await waitFor("the detour", async () => (await detours(lab, one)).includes(intrawire), {
        deadlineMs: NETWORK_DEADLINE_MS,
      });
      await reach("the detour's other end");
    } finally {
      await mendPaths(lab);
    }
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
    const rest = () => Promise.all([one, other].map((name) => detours(lab, name)));
    await waitFor("the end of the detours", async () => (await rest()).join("") === "", {
      deadlineMs: NETWORK_DEADLINE_MS,
    });
    await reach("the wire again");
  });
}

/** Routes of intrawire addresses that lead over the access network. */
async function detours(lab: Lab, name: string): Promise<string> {
  return (await onHost(lab, name, "ip -4 route show proto 109", "mobula")).trim();
}
