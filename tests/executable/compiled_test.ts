/**
 * The executable made by `deno compile`, really made and really run. Slow.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { hashOfFile } from "../../lib/executable.ts";
import { lastLines } from "../../scripts/compile/run.ts";
import { parseLdd } from "../../scripts/compile/self_unpacking.ts";
import { getDenort } from "../../scripts/get_denort.ts";
import { execute, ROOT } from "./helpers.ts";
import type { Seen } from "./program.ts";

Deno.test("compiled: says what it is, sees arguments, stdin and its own file", async () => {
  const denort = `${ROOT}/.cache/denort-2.4.2`;
  await getDenort(denort);
  const directory = await Deno.makeTempDir({ prefix: "mobula-executable-" });
  try {
    const file = `${directory}/mobula`;
    const argv = ["--kind", "compiled", "--entry", `${ROOT}/tests/executable/program.ts`, "--output", file];
    const built = await execute([Deno.execPath(), "run", "-A", `${ROOT}/scripts/compile.ts`, ...argv], {
      env: { DENORT_BIN: denort },
    });
    assertEquals([built.code, built.stderr], [0, ""]);
    assertMatch(built.stdout, /: compiled \(Deno 2\.4\.2\), [\d.]+ MB, [\d.]+ MB gzipped\n/);
    assert(Number(built.stdout.match(/([\d.]+) MB gzipped/)![1]) <= 45);
    assertMatch(
      (await execute([file, "--version"])).stdout,
      /^mobula \d+\.\d+\.\d+ \(compiled, Deno 2\.4\.2\)\n$/,
    );
    await expectSight(file);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

async function expectSight(file: string): Promise<void> {
  const words = ["look", "a b", "-x"];
  const seen: Seen = JSON.parse((await execute([file, ...words], { input: "in" })).stdout);
  assertEquals([seen.kind, seen.path, seen.hash], ["compiled", file, await hashOfFile(file)]);
  assertEquals([seen.args, seen.stdin, seen.publicKeyLength], [words, "in", 32]);
}

Deno.test("parseLdd: paths of libraries and loader; a missing one is an error", () => {
  const text =
    "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f01)\n\t/lib64/ld-linux.so.2 (0x00007f02)\n";
  assertEquals(parseLdd(text), ["/lib/libm.so.6", "/lib64/ld-linux.so.2"]);
  let message = "";
  try {
    parseLdd("\tlibx.so => not found\n");
  } catch (error) {
    message = (error as Error).message;
  }
  assertEquals(message, "Cannot pack Deno: libx.so => not found; expected all its libraries here");
});

Deno.test("lastLines: one line without colours and stack trace", () => {
  assertEquals(
    lastLines("\x1b[31merror\x1b[0m: no\n\n  2: why\nStack backtrace:\n  0: x\n"),
    "error: no; 2: why",
  );
});
