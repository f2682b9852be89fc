import { assertEquals, assertMatch } from "@std/assert";
import { machinesLeftOut } from "../../scripts/machines_left_out.ts";

Deno.test("machinesLeftOut: 0 leaves them out, also where there is QEMU, and says so", () => {
  assertEquals(machinesLeftOut("0", true), "because MOBULA_TEST_VM is 0");
  assertEquals(machinesLeftOut("0", false), "because MOBULA_TEST_VM is 0");
});

Deno.test("machinesLeftOut: 1 wants them, also where there is no QEMU yet", () => {
  assertEquals(machinesLeftOut("1", false), undefined);
  assertEquals(machinesLeftOut("1", true), undefined);
});

Deno.test("machinesLeftOut: unset, QEMU decides; without it the way to it is told", () => {
  for (const wish of [undefined, ""]) {
    assertEquals(machinesLeftOut(wish, true), undefined);
    assertMatch(
      machinesLeftOut(wish, false) ?? "",
      /no qemu-system-x86_64; "apt-get install .*MOBULA_TEST_VM=1$/,
    );
  }
});
