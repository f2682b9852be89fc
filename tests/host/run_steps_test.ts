/** Steps are run in order, neighbouring `ip` commands as one, and the first failure is named and final. */
import { assertEquals, assertRejects } from "@std/assert";
import { CommandError } from "../../lib/errors.ts";
import { runStep, runSteps } from "../../lib/host/run_steps.ts";
import { SET_SYSCTLS } from "../../lib/net/steps.ts";
import type { Output, Runner, Step } from "../../lib/step.ts";

/** Records what is run; a command that contains `failing` ends with 1 and these words. */
class RecordingRunner implements Runner {
  readonly ran: Step[] = [];
  constructor(readonly failing?: string, readonly stderr = "") {}
  run(step: Step): Promise<Output> {
    this.ran.push(step);
    const fails = this.failing !== undefined &&
      `${step.argv.join(" ")}\n${step.stdin ?? ""}`.includes(this.failing);
    return Promise.resolve({ code: fails ? 1 : 0, stdout: "said\n", stderr: fails ? this.stderr : "" });
  }
  readFile(): Promise<string | undefined> {
    return Promise.reject(new Error("steps read no file"));
  }
  readFiles(): Promise<ReadonlyMap<string, string | undefined>> {
    return Promise.reject(new Error("steps read no file"));
  }
  readLink(): Promise<undefined> {
    return Promise.reject(new Error("steps read no link"));
  }
  list(): Promise<readonly string[]> {
    return Promise.reject(new Error("steps list no folder"));
  }
  writeFile(): Promise<void> {
    return Promise.reject(new Error("steps write no file"));
  }
}

function step(words: string, more: Partial<Step> = {}): Step {
  return { title: `do ${words}`, argv: words.split(" "), ...more };
}

function sysctl(words: string, more: Partial<Step> = {}): Step {
  return { title: `set ${words}`, argv: [...SET_SYSCTLS, ...words.split(" ")], ...more };
}

/** What was run, one line each: namespace, words, standard input. */
function told({ ran }: RecordingRunner): string[] {
  return ran.map(({ argv, namespace, stdin }) =>
    [namespace, ...argv, stdin === undefined ? undefined : `<${stdin.replaceAll("\n", ";")}`]
      .filter((word) => word !== undefined).join(" ")
  );
}

const CASES: Record<string, [readonly Step[], readonly string[]]> = {
  "neighbouring ip commands are one": [
    [step("ip link add a"), step("ip addr add b"), step("ip rule add c")],
    ["ip -batch - <link add a;addr add b;rule add c;"],
  ],
  "a single one stays as it is": [[step("wg set"), step("ip link add a"), step("wg set")], [
    "wg set",
    "ip link add a",
    "wg set",
  ]],
  "another namespace begins another batch": [
    [
      step("ip link set a", { namespace: "mobula" }),
      step("ip link set b", { namespace: "mobula" }),
      step("ip link set c"),
      step("ip link set d"),
      step("ip link set e", { namespace: "mobula" }),
    ],
    [
      "mobula ip -batch - <link set a;link set b;",
      "ip -batch - <link set c;link set d;",
      "mobula ip link set e",
    ],
  ],
  "namespaces and the other family are not for a batch": [
    [step("ip netns add x"), step("ip netns add y"), step("ip -6 route add z"), step("ip -6 route add w")],
    ["ip netns add x", "ip netns add y", "ip -6 route add z", "ip -6 route add w"],
  ],
  "what reads standard input is not for a batch": [
    [step("ip link add a"), step("ip something", { stdin: "x\n" })],
    ["ip link add a", "ip something <x;"],
  ],
  "what may fail alone is not for a batch": [
    [step("ip link add a"), step("ip addr add b", { mayFail: true }), step("ip addr add c")],
    ["ip link add a", "ip addr add b", "ip addr add c"],
  ],
  "neighbouring sysctls are one shell": [
    [sysctl("1 a"), sysctl("2 b"), sysctl("3 c", { namespace: "mobula" }), step("ip link add a")],
    [`${SET_SYSCTLS.join(" ")} 1 a 2 b`, `mobula ${SET_SYSCTLS.join(" ")} 3 c`, "ip link add a"],
  ],
  "nothing": [[], []],
};

for (const [what, [steps, expected]] of Object.entries(CASES)) {
  Deno.test(`runSteps: ${what}`, async () => {
    const runner = new RecordingRunner();
    const reported: string[] = [];
    await runSteps(runner, steps, (title) => reported.push(title));
    assertEquals(told(runner), expected);
    assertEquals(reported, steps.map(({ title }) => title));
  });
}

Deno.test("runSteps: stops at the first that fails and names it", async () => {
  const runner = new RecordingRunner("two", "first line\nit is broken\n");
  const steps = [step("one"), step("two words"), step("three")];
  const error = await assertRejects(() => runSteps(runner, steps, () => {}), CommandError);
  assertEquals(told(runner), ["one", "two words"]);
  assertEquals(
    error.message,
    'Cannot do two words: "two words" ended with 1:\n  first line\n  it is broken',
  );
});

Deno.test("runSteps: what may fail is told, and the rest is done", async () => {
  const runner = new RecordingRunner("two", "it is broken\n");
  const reported: string[] = [];
  const steps = [step("one"), step("two words", { mayFail: true }), step("three")];
  await runSteps(runner, steps, (title) => reported.push(title));
  assertEquals(told(runner), ["one", "two words", "three"]);
  const failure = 'Cannot do two words: "two words" ended with 1:\n  it is broken';
  assertEquals(reported, ["do one", "do two words", failure, "do three"]);
});

Deno.test("runSteps: names the command of a batch that failed", async () => {
  const runner = new RecordingRunner("link add b", "RTNETLINK answers: File exists\nCommand failed -:2\n");
  const steps = [step("ip link add a"), step("ip link add b"), step("ip link add c"), step("wg set")];
  const error = await assertRejects(() => runSteps(runner, steps, () => {}), CommandError);
  assertEquals(error.title, "do ip link add b");
  assertEquals(error.argv, ["ip", "link", "add", "b"]);
  assertEquals(runner.ran.length, 1);
});

Deno.test("runSteps: names the whole batch where ip does not say which command failed", async () => {
  const runner = new RecordingRunner("link add b", 'Cannot open network namespace "mobula"\n');
  const steps = [step("ip link add a"), step("ip link add b")];
  const error = await assertRejects(() => runSteps(runner, steps, () => {}), CommandError);
  assertEquals(error.title, "do ip link add a, do ip link add b");
  assertEquals(error.argv, ["ip", "-batch", "-"]);
});

Deno.test("runStep: gives what the command said, or its words where it said nothing on standard error", async () => {
  assertEquals(await runStep(new RecordingRunner(), step("one")), "said\n");
  const error = await assertRejects(() => runStep(new RecordingRunner("one"), step("one")), CommandError);
  assertEquals([error.code, error.stderr], [1, "said\n"]);
});
