/** What a host of any kind does when it is rebooted, or loses its power. */
import { assert, assertEquals } from "@std/assert";
import type { Lab } from "./lab.ts";

/** Reboots the host: it comes back as another boot, with its files. */
export async function expectReboot(lab: Lab, host: string): Promise<void> {
  const bootId = async () => (await lab.ssh(host, "cat /proc/sys/kernel/random/boot_id")).stdout;
  const before = await bootId();
  await lab.ssh(host, "touch /root/survives-reboot");
  await lab.reboot(host);
  const after = await bootId();
  assert(after !== "" && after !== before, `the boot id must change: ${before} ${after}`);
  assertEquals((await lab.ssh(host, "ls /root/survives-reboot")).code, 0);
}

/** Takes the host's power away: nobody answers until it is switched on again, with what had reached its disk. */
export async function expectPowerCut(lab: Lab, host: string): Promise<void> {
  await lab.ssh(host, "touch /root/survives-power-cut; sync");
  await lab.kill(host);
  const ping = ["ping", "-c", "1", "-W", "1", lab.host(host).address];
  assertEquals((await lab.deployer.exec(ping)).code, 1, "there must be no answer");
  await lab.start(host);
  assertEquals((await lab.ssh(host, "ls /root/survives-power-cut")).code, 0);
}
