/**
 * Whether the tests in virtual machines are part of a run of all tests. Pure.
 */

/**
 * Why virtual machines are left out of a run that names no suite; undefined if they are not. `wish` is MOBULA_TEST_VM: 1 wants them, and
 * they install what they need; 0 does not; else they are part of it where there is QEMU.
 */
export function machinesLeftOut(wish: string | undefined, hasQemu: boolean): string | undefined {
  if (wish === "0") return "because MOBULA_TEST_VM is 0";
  if (wish === "1" || hasQemu) return undefined;
  return 'because there is no qemu-system-x86_64; "apt-get install qemu-system-x86 qemu-utils", or MOBULA_TEST_VM=1';
}
