/**
 * A switch that is restarted on purpose: another process takes the place of the first, and whatever becomes of either of them or of
 * the order itself, there is one switch in the end, and it is systemd's. Two hosts; nothing is timed (`timed/direct_test.ts` does).
 * Needs root and the lab's packages.
 */
import { assertEquals } from "@std/assert";
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
const RUN = "/run/mobula/ovs";

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

/** Runs a script on a host, where it knows `$old`, the switch's process, and the files with the id of the one that is to follow. */
async function strike(lab: Lab, host: string, script: string): Promise<void> {
  const { vswitchd } = await mainPids(lab, host);
  const head = `old=${vswitchd}; waiting=${RUN}/vswitchd.waiting; next=${RUN}/vswitchd.next
there() { until [ -s "$1" ]; do sleep 0.01; done; }
main() { systemctl show --value -p MainPID ${UNIT}; }
`;
  await ask(lab, host, ["timeout", "60", "sh", "-eu", "-c", head + script]);
}

/** All processes that belong to the unit. */
async function processes(lab: Lab, host: string): Promise<string[]> {
  const script = `cat /sys/fs/cgroup/system.slice/${UNIT}/cgroup.procs 2>/dev/null |
while read -r pid; do echo "$pid $(cat "/proc/$pid/comm")"; done`;
  return (await ask(lab, host, ["sh", "-c", script])).split("\n").filter(Boolean);
}

/** Files that are there for a moment, apart from those of the process with this id. */
async function leftovers(lab: Lab, host: string, pid: number): Promise<string> {
  const script = `cd /run/mobula; ls | grep -e ^quick -e ^go -e learned
cd ovs; ls | grep '^vswitchd[.]' | grep -v -e '[.]ctl$' -e '[.]pid$'
ls | grep '^vswitchd[.][0-9]' | grep -v '[.]${pid}[.]'`;
  return (await lab.exec(host, ["sh", "-c", script])).stdout;
}

/** One switch, which is the unit's, answers by its usual path, and carries; nothing is left of how it came. */
async function assertWhole(lab: Lab, { program }: Pushed, host: string): Promise<void> {
  await waitFor(`${UNIT} on ${host}`, async () => {
    const said = await ask(lab, host, ["systemctl", "show", "--value", "-p", "ActiveState", UNIT]);
    return said.trim() === "active";
  });
  await waitForHealed(lab, host);
  await waitForPaths(lab, NAMES);
  const { vswitchd } = await mainPids(lab, host);
  await waitFor(`one process on ${host}`, async () => {
    const found = await processes(lab, host);
    if (found.join() === `${vswitchd} ovs-vswitchd`) return true;
    throw new Error(found.join(", "));
  });
  const control = await ask(lab, host, ["readlink", `${RUN}/vswitchd.ctl`]);
  assertEquals(control.trim(), `${RUN}/vswitchd.${vswitchd}.ctl`);
  assertEquals((await vsctl(lab, host, "get", "Open_vSwitch", ".", "other_config")).trim(), "{}");
  const silent = ["--bare", "--columns=name", "find", "Interface", "bfd:enable=false"];
  assertEquals((await vsctl(lab, host, ...silent)).trim(), "");
  assertEquals(await leftovers(lab, host, vswitchd), "");
  const gateways = NAMES.map((name) => hostAddresses(lab.host(name).id).gateway);
  await waitForAnswers("all gateways", () => lab.network(host, "mobula"), gateways, 20_000);
  expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan");
}

/** Shell: puts a script in the place of one of our programs, until the next repair; it finds that one beside itself. */
function stub(name: string, ...lines: readonly string[]): string {
  const path = `/opt/mobula/bin/${name}`;
  const text = ["#!/bin/sh", ...lines, 'exec "$0.real" "$@"'].join("\n");
  return `mv ${path} ${path}.real
cat >${path} <<'STUB'
${text}
STUB
chmod +x ${path}
`;
}

for (const host of NAMES) {
  proof(
    `${host}: restarted twice, the process that waited is the switch, and knows who is where`,
    async (lab, pushed) => {
      const other = lab.host(NAMES.find((name) => name !== host)!).id;
      const mac = `02:6d:6f:00:0${other}:01`;
      const place = async () => (await learned(lab, host)).find((one) => one.mac === mac)?.host;
      for (let time = 0; time < 2; time++) {
        const { gateway } = hostAddresses(other);
        await waitForAnswers("the other", () => lab.network(host, "mobula"), [gateway], 20_000);
        assertEquals(await place(), other);
        // What a start does that was not prepared would leave a mark.
        const script = `${stub("restore-switch", "touch /root/unprepared")}rm -f /root/unprepared
systemctl restart --no-block ${UNIT}
there $waiting; read -r following <$waiting
until [ "$(main)" = "$following" ]; do sleep 0.05; done
until [ "$(systemctl is-active ${UNIT})" = active ]; do sleep 0.05; done
[ ! -e /root/unprepared ]`;
        await strike(lab, host, script);
        assertEquals(await place(), other);
        await assertWhole(lab, pushed, host);
      }
    },
  );
}

proof(
  "a restart that becomes a stop leaves nobody behind, and the next start is whole",
  async (lab, pushed) => {
    await strike(
      lab,
      "alpha",
      `systemctl restart --no-block ${UNIT}; there $waiting; systemctl stop ${UNIT}`,
    );
    await waitFor("no process", async () => (await processes(lab, "alpha")).length === 0);
    assertEquals((await lab.exec("alpha", ["pgrep", "-f", "^ovs-vswitchd unix:/run/mobula/"])).stdout, "");
    assertEquals(await leftovers(lab, "alpha", 0), "");
    await ask(lab, "alpha", ["systemctl", "start", UNIT]);
    await assertWhole(lab, pushed, "alpha");
  },
);

const BEGIN = `systemctl restart --no-block ${UNIT}; there $waiting; read -r following <$waiting`;
const HANDS_OVER = `"$(systemctl show --value -p ControlPID ${UNIT})"`;

/** What goes wrong, and the script that makes it so. */
const MISHAPS: readonly (readonly [string, string])[] = [
  [
    "the second process cannot start",
    `${stub("start-vswitchd", "case $1 in *.waiting) touch /root/tried; exit 0 ;; esac")}rm -f /root/tried
systemctl restart ${UNIT}; [ -e /root/tried ]; [ "$(main)" != $old ]`,
  ],
  ["the second process dies before it may take the place", `${BEGIN}; kill -9 $following`],
  [
    "the second process dies as soon as it is alone",
    `${BEGIN}; while kill -0 $old 2>/dev/null; do sleep 0.01; done; kill -9 $following`,
  ],
  ["the first process dies while the second one starts", `${BEGIN}; kill -9 $old`],
  ["the first process hangs", `kill -STOP $old; systemctl restart ${UNIT}; [ "$(main)" != $old ]`],
  ["the program that hands over is killed", `${BEGIN}; kill -9 ${HANDS_OVER}`],
  ["the program that hands over is told to end", `${BEGIN}; kill ${HANDS_OVER}`],
  ["the database is restarted beside it", `systemctl restart mobula-ovsdb.service ${UNIT}`],
  [
    "restarted again before its paths have spoken",
    `${BEGIN}; until [ "$(main)" = "$following" ]; do sleep 0.01; done; systemctl restart ${UNIT}`,
  ],
  ["it had just been killed", `kill -9 $old; sleep 0.3; systemctl restart ${UNIT}`],
];

for (const [title, script] of MISHAPS) {
  proof(`a restart, and ${title}: one switch in the end`, async (lab, pushed) => {
    await strike(lab, "alpha", script);
    await assertWhole(lab, pushed, "alpha");
  });
}

proof("a switch that is never told to carry: the repair tells it", async (lab, pushed) => {
  const script = `${stub("resume-paths", "touch /root/tried", "exit 1")}rm -f /root/tried
kill -9 $old; until [ -e /root/tried ]; do sleep 0.01; done`;
  await strike(lab, "alpha", script);
  await assertWhole(lab, pushed, "alpha");
});
