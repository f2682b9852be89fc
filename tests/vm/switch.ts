/**
 * Proof about a switch whose datapath is the kernel's: restarted on purpose, the kernel carries on without the process, and the peers
 * wait for it.
 */
import { assert, assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import type { Lab } from "../lab/lab.ts";
import {
  during,
  type Flow,
  INTERVAL_MS,
  startFlow,
  vsctl,
  waitForHealed,
  waitForPaths,
} from "../lab/switching.ts";
import { NAMES, NETWORK_DEADLINE_MS, onHost, type Proof } from "./stage.ts";

/** What 300 ms are in pings. Nothing at all is lost as a rule. */
const MOST_LOST = 300 / INTERVAL_MS;

const GONE = 'while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done';
const BACK =
  "until ovs-ofctl -O OpenFlow13 dump-flows unix:/run/mobula/ovs/ovsbr-mobula.mgmt table=4 2>/dev/null | " +
  "grep -q group:; do sleep 0.01; done";

export function declareSwitch(proof: Proof, names: readonly string[] = NAMES): void {
  proof("switch: restarted on purpose, the kernel carries on, and the peers wait", async (lab) => {
    const [one = "", other = ""] = names;
    await waitForPaths(lab, names, NETWORK_DEADLINE_MS);
    const address = hostAddresses(lab.host(one).id).gateway;
    const flow = await startFlow(lab, `${other}-${one}`, lab.network(other, "mobula"), address);
    const before = await flaps(lab, other, one);
    let meanwhile = 0;
    const seen = await during([flow], async () => {
      meanwhile = await restart(lab, one, flow);
      await waitForPaths(lab, names, NETWORK_DEADLINE_MS);
    });
    console.log(`  ${meanwhile} answers while there was no process`);
    assert(meanwhile > 5, `${meanwhile} answers without the process; expected the kernel's`);
    const { duplicates, lost } = seen[flow.name]!;
    assertEquals(duplicates, 0);
    assert(lost <= MOST_LOST, `${lost} lost; expected at most ${MOST_LOST}`);
    assert(await flaps(lab, other, one) - before <= 2, "down once at most, when the new switch says hello");
    assertEquals(
      (await vsctl(lab, one, "get", "Open_vSwitch", ".", "other_config")).trim(),
      "{}",
      "the switch answers for itself again",
    );
    await waitForHealed(lab, one, NETWORK_DEADLINE_MS);
  });
}

/** Restarts a host's switch; gives the number of answers from its end until it had its flows again. */
async function restart(lab: Lab, name: string, flow: Flow): Promise<number> {
  const pid = (await onHost(lab, name, "systemctl show -p MainPID mobula-vswitchd.service")).replace(
    /\D/g,
    "",
  );
  const work = onHost(lab, name, "systemctl restart mobula-vswitchd.service");
  await onHost(lab, name, `pid=${pid}; ${GONE}`);
  const gone = flow.answers();
  await onHost(lab, name, BACK);
  const answers = flow.answers() - gone;
  await work;
  return answers;
}

/** How often a host's direct path to another one has come up or gone down. */
async function flaps(lab: Lab, from: string, to: string): Promise<number> {
  const port = `mo-path-${lab.host(to).id}`;
  const count = await vsctl(lab, from, "get", "Interface", port, "bfd_status:flap_count");
  return Number(count.trim().replaceAll('"', ""));
}
