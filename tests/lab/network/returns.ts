/**
 * Proofs that the network comes back by itself: after a daemon was killed, and after all hosts were rebooted at once.
 */
import { assertEquals } from "@std/assert";
import { hostAddresses } from "../../../lib/address.ts";
import type { Lab, LabHost } from "../lab.ts";
import { allInnerAddresses, resolveAt, waitForAnswers } from "../probes.ts";
import { expectCode, mobula } from "../proof.ts";
import { ask, type Daemon, DAEMONS, mainPids } from "../snapshot.ts";
import { waitFor } from "../wait.ts";
import { BARE, names, type Proof } from "./fleet.ts";

export function declareReturns(proof: Proof): void {
  for (const daemon of DAEMONS) {
    proof(`kill -9 of ${daemon}: back within 10 s`, async (lab) => {
      const host = lab.host(DAEMONS.indexOf(daemon) % 2 === 0 ? "beta" : "gamma");
      const before = await mainPids(lab, host.name);
      await ask(lab, host.name, ["kill", "-9", String(before[daemon])]);
      const began = performance.now();
      await waitFor(`a new ${daemon}`, async () => {
        const pid = (await mainPids(lab, host.name))[daemon];
        return pid !== 0 && pid !== before[daemon];
      }, { deadlineMs: 10_000 });
      await expectWell(lab, host, 10_000 - (performance.now() - began));
      // Well for good: what configures the new daemon has ended, and it still is.
      await waitFor("the end of the healing", () => isIdle(lab, host.name, "mobula-heal.service"));
      await expectWell(lab, host, 10_000 - (performance.now() - began));
      assertEquals(
        otherPids(await mainPids(lab, host.name), daemon),
        otherPids(before, daemon),
        "nobody else is restarted",
      );
    });
  }

  proof("the switch's package is installed anew: ours is not restarted, and answers", async (lab) => {
    const [name = ""] = BARE;
    const before = await mainPids(lab, name);
    await ask(lab, name, ["apt-get", "install", "--reinstall", "--yes", "-qq", "openvswitch-switch"]);
    assertEquals(await mainPids(lab, name), before);
    await expectWell(lab, lab.host(name), 10_000);
  });

  proof(
    "reboot: all hosts at once, nobody pushes, and the network is back by itself",
    async (lab, { program }) => {
      const began = performance.now();
      await Promise.all(names(lab).map((name) => lab.reboot(name)));
      await Promise.all(
        lab.state.hosts.map((host) => expectWell(lab, host, 120_000 - (performance.now() - began))),
      );
      const verified = await mobula(lab, { executable: program }, "verify", "--wait", "60");
      expectCode(verified, 0, "verify after the reboot");
    },
  );
}

/** Names that a host must answer with, and addresses that it must reach, when it is well. */
export async function expectWell(lab: Lab, { name, id }: LabHost, deadlineMs: number): Promise<void> {
  const { gateway } = hostAddresses(id);
  const began = performance.now();
  await waitForAnswers(
    `the network of ${name}`,
    () => lab.network(name),
    allInnerAddresses(lab.state.hosts),
    deadlineMs,
  );
  const left = deadlineMs - (performance.now() - began);
  await waitFor(
    `names on ${name}`,
    async () => (await resolveAt(lab.network(name), gateway, ["zeta"])).zeta === "10.31.129.0",
    {
      deadlineMs: left,
    },
  );
}

async function isIdle(lab: Lab, host: string, unit: string): Promise<boolean> {
  return /^(inactive|failed)/.test((await lab.exec(host, ["systemctl", "is-active", unit])).stdout);
}

function otherPids(pids: Readonly<Record<Daemon, number>>, daemon: Daemon): Record<string, number> {
  return Object.fromEntries(Object.entries(pids).filter(([name]) => name !== daemon));
}
