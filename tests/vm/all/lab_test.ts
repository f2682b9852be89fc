/** `deno task vm` by hand: one machine that is made, entered, rebooted, cut off and removed. Needs root and QEMU; `deno task test:vm --all`. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { expectPowerCut, expectReboot } from "../../lab/life.ts";
import { down, openLab, printJournals, traces } from "../../lab/lab.ts";
import { run } from "../../lab/process.ts";

const LAB = "vmself";

/** Runs the task as a person does. */
async function vm(...words: readonly string[]) {
  const script = new URL("../../../scripts/vm.ts", import.meta.url).pathname;
  return await run([Deno.execPath(), "run", "-A", script, ...words]);
}

Deno.test("vm: a machine with a kernel of its own, made and removed by the task, lives like a real one", async (test) => {
  await down(LAB);
  try {
    const made = await vm("up", "--lab", LAB, "--hosts", "1");
    assertEquals(made.code, 0, made.stderr);
    assertMatch(made.stdout, /lab "vmself" is up after [\d.]+ s\n {2}alpha {2}198\.51\.100\.2 .* machine\n/);
    console.log(made.stdout.split("\n")[0]);
    const lab = openLab(LAB);
    await test.step("exec: commands run there, on another kernel than this machine's", async () => {
      const { code, stdout } = await vm("exec", "--lab", LAB, "alpha", "uname", "-nr");
      const [name, kernel] = stdout.trim().split(" ");
      assertEquals([code, name], [0, "alpha"]);
      assertMatch(kernel ?? "", /^\d+\.\d+/);
      assertNotEquals(kernel, Deno.osRelease());
      assertEquals((await vm("exec", "--lab", LAB, "alpha", "sh", "-c", "exit 7")).code, 7);
    });
    await test.step("ssh: from the deployer", async () => {
      assertEquals((await vm("ssh", "--lab", LAB, "alpha", "uname", "-n")).stdout, "alpha\n");
    });
    await test.step("reboot: it comes back with its files", () => expectReboot(lab, "alpha"));
    await test.step("kill: power cut, files survive, it starts again", () => expectPowerCut(lab, "alpha"));
    await test.step("printJournals: shows the console, too", async () => {
      const lines: string[] = [];
      const print = console.error;
      console.error = (line: string) => lines.push(line);
      try {
        await printJournals(lab, 5);
      } finally {
        console.error = print;
      }
      assertMatch(lines.join("\n"), /console of alpha\n[^]*\S[^]*---- journal of alpha\n.+/);
    });
    await test.step("status: tells that it is on", async () => {
      const { stdout } = await vm("status");
      assertMatch(stdout, /^vmself .*\n {2}alpha .* machine {2}on$/m);
    });
    assert(traces(LAB).some((trace) => trace.startsWith("process ")), "a machine is a process");
    const removed = await vm("down", LAB);
    assertEquals(removed.code, 0, removed.stderr);
    assertEquals(traces(LAB), []);
  } finally {
    await down(LAB);
  }
});
