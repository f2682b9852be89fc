/**
 * A switch that is restarted on purpose: another process takes the place of the first, and whatever becomes of either of them or of
 * the order itself, there is one switch in the end, and it is systemd's. Two hosts; nothing is timed (`timed/direct_test.ts` does).
 * Needs root and the lab's packages.
 */
import { assert, assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { waitForAnswers } from "./probes.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask, mainPids } from "./snapshot.ts";
import { learned, vsctl, waitForHealed, waitForPaths } from "./switching.ts";
import { waitFor } from "./wait.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
];
const NAMES = HOSTS.map(({ name }) => name);
const UNIT = "mobula-vswitchd.service";

interface Pushed {
  readonly program: string;
}

const { proof } = setStage<Pushed>({ name: "handover", hosts: HOSTS, prepare });

async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  await writeInventory(lab, { vars: { mobula_access: "none" } });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  await waitForPaths(lab, NAMES);
  return { program };
}

/** Runs a script on a host, where it knows `$old`, the switch's process, and the file with the id of the next one. */
async function strike(lab: Lab, host: string, script: string): Promise<void> {
  const { vswitchd } = await mainPids(lab, host);
  const head = `old=${vswitchd}; next=/run/mobula/ovs/vswitchd.next
until_there() { until [ -s "$next" ]; do sleep 0.01; done; }\n`;
  await ask(lab, host, ["timeout", "60", "sh", "-eu", "-c", head + script]);
}

/** The processes of a host's own switch. */
async function switches(lab: Lab, host: string): Promise<number[]> {
  const said = await lab.exec(host, ["pgrep", "-f", "^ovs-vswitchd unix:/run/mobula/"]);
  return said.stdout.split("\n").filter(Boolean).map(Number);
}

/** One switch, which is the unit's, answers by its usual path, and carries. */
async function assertWhole(lab: Lab, { program }: Pushed, host: string): Promise<void> {
  await waitFor(`${UNIT} on ${host}`, async () => {
    const said = await ask(lab, host, ["systemctl", "show", "--value", "-p", "ActiveState", UNIT]);
    return said.trim() === "active";
  });
  await waitForHealed(lab, host);
  await waitForPaths(lab, NAMES);
  const { vswitchd } = await mainPids(lab, host);
  assertEquals(await switches(lab, host), [vswitchd]);
  const control = await ask(lab, host, ["readlink", "/run/mobula/ovs/vswitchd.ctl"]);
  assertEquals(control.trim(), `/run/mobula/ovs/vswitchd.${vswitchd}.ctl`);
  assertEquals((await vsctl(lab, host, "get", "Open_vSwitch", ".", "other_config")).trim(), "{}");
  const left = await ask(lab, host, [
    "sh",
    "-c",
    "cd /run/mobula; ls | grep -e ^quick -e ^go -e learned || :",
  ]);
  assertEquals(left, "", "nothing is left of the change");
  const others = NAMES.map((name) => hostAddresses(lab.host(name).id).gateway);
  await waitForAnswers("all gateways", () => lab.network(host, "mobula"), others, 20_000);
  expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan");
}

for (const host of NAMES) {
  proof(
    `${host}: restarted twice, the process that waited is the switch, and knows who is where`,
    async (lab, pushed) => {
      const other = NAMES.find((name) => name !== host)!;
      const mac = `02:6d:6f:00:${lab.host(other).id.toString(16).padStart(2, "0")}:01`;
      for (let time = 0; time < 2; time++) {
        await waitForAnswers("the other", () => lab.network(host, "mobula"), [
          hostAddresses(lab.host(other).id).gateway,
        ], 20_000);
        const before = (await learned(lab, host)).find((one) => one.mac === mac);
        assert(before !== undefined, `${host} has learned ${mac}`);
        await strike(
          lab,
          host,
          `systemctl restart --no-block ${UNIT}
until_there; read -r waiting <"$next"
until [ "$(systemctl show --value -p MainPID ${UNIT})" = "$waiting" ]; do sleep 0.05; done`,
        );
        assertEquals((await learned(lab, host)).find((one) => one.mac === mac)?.host, before?.host);
        await assertWhole(lab, pushed, host);
      }
    },
  );
}

proof(
  "a restart that becomes a stop leaves nobody behind, and the next start is whole",
  async (lab, pushed) => {
    await strike(lab, "alpha", `systemctl restart --no-block ${UNIT}; until_there; systemctl stop ${UNIT}`);
    await waitFor("no switch", async () => (await switches(lab, "alpha")).length === 0);
    await ask(lab, "alpha", ["systemctl", "start", UNIT]);
    await assertWhole(lab, pushed, "alpha");
  },
);

proof(
  "a second process that cannot start: the first one goes, and a new one comes, as ever",
  async (lab, pushed) => {
    const path = "/opt/mobula/bin/start-vswitchd";
    const fails = `#!/bin/sh\ncase $1 in *.next) exit 0 ;; esac\nexec /root/start-vswitchd "$@"\n`;
    await strike(
      lab,
      "alpha",
      `cp ${path} /root; printf '%s' '${fails}' >${path}; systemctl restart ${UNIT}`,
    );
    await assertWhole(lab, pushed, "alpha");
  },
);

proof("the second process dies as soon as it is alone", async (lab, pushed) => {
  await strike(
    lab,
    "alpha",
    `systemctl restart --no-block ${UNIT}; until_there; read -r waiting <"$next"
while kill -0 $old 2>/dev/null; do sleep 0.01; done; kill -9 $waiting`,
  );
  await assertWhole(lab, pushed, "alpha");
});

proof("the first process dies while the second one starts", async (lab, pushed) => {
  await strike(lab, "alpha", `systemctl restart --no-block ${UNIT}; until_there; kill -9 $old`);
  await assertWhole(lab, pushed, "alpha");
});

proof("the hand-over itself is killed: systemd goes on without it", async (lab, pushed) => {
  await strike(
    lab,
    "alpha",
    `systemctl restart --no-block ${UNIT}; until_there
kill -9 "$(systemctl show --value -p ControlPID ${UNIT})"`,
  );
  await assertWhole(lab, pushed, "alpha");
});
