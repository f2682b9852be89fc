/** A machine that cannot start says why. Needs root and QEMU. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { down, type HostOptions, traces, withLab } from "../lab/lab.ts";
import { ensurePackages, MACHINE_PACKAGES } from "../lab/packages.ts";
import { VM_PACKAGES } from "./qemu.ts";

const LAB = "noboot";

Deno.test("machines: an image that does not boot is told at once, with the console's last lines", async () => {
  await ensurePackages([...MACHINE_PACKAGES, ...VM_PACKAGES]);
  await down(LAB);
  // Neither the initrd's first program nor, without its modules, a root.
  const broken: HostOptions = {
    name: "broken",
    address: "198.51.100.2",
    kind: "machine",
    kernelArguments: "rdinit=/nowhere",
  };
  const { message } = await assertRejects(() => withLab(LAB, [broken], () => Promise.resolve()), Error);
  assertMatch(message, /^Cannot start broken: its kernel has given up; expected its SSH server to greet/);
  assertMatch(message, /console ends with\n[^]*Kernel panic/);
  assertEquals(traces(LAB), []);
});
