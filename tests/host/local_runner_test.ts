/** Real processes, and real files in a folder that is removed. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { enterNamespace, LocalRunner } from "../../lib/host/local_runner.ts";
import { CommandError } from "../../lib/errors.ts";
import { runStep } from "../../lib/host/run_steps.ts";

const runner = new LocalRunner();

function run(argv: readonly string[], stdin?: string) {
  return runner.run({ title: "try", argv, ...(stdin === undefined ? {} : { stdin }) });
}

/** A test with a folder of its own. */
function testInFolder(name: string, action: (folder: string) => Promise<void>): void {
  Deno.test(name, async () => {
    const folder = await Deno.makeTempDir({ prefix: "mobula-test-" });
    try {
      await action(folder);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

function modeOf(path: string): string {
  return ((Deno.statSync(path).mode ?? 0) & 0o7777).toString(8);
}

function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("LocalRunner: exit code, standard output and standard error", async () => {
  assertEquals(await run(["sh", "-c", "echo out; echo err >&2; exit 7"]), {
    code: 7,
    stdout: "out\n",
    stderr: "err\n",
  });
});

Deno.test("LocalRunner: words are passed as they are, no shell reads them", async () => {
  const words = ["$(id)", "a b", "", "'", "`x`", "*", "ä\n"];
  assertEquals((await run(["printf", "%s|", ...words])).stdout, words.map((word) => `${word}|`).join(""));
});

Deno.test("LocalRunner: standard input whole, also when it is long", async () => {
  const text = "0123456789abcde\n".repeat(100_000);
  assertEquals((await run(["cat"], text)).stdout.length, text.length);
  assertEquals((await run(["cat"])).stdout, "");
  assertEquals((await run(["cat"], "")).stdout, "");
});

Deno.test("LocalRunner: a command that does not read its standard input decides by its exit code", async () => {
  const text = "x".repeat(4_000_000);
  assertEquals((await run(["true"], text)).code, 0);
  assertEquals((await run(["sh", "-c", "exec <&-; echo no >&2; exit 3"], text)).code, 3);
});

Deno.test("LocalRunner: no locale, and both sbin folders", async () => {
  const { stdout } = await run(["sh", "-c", 'echo "$LC_ALL $PATH"']);
  assertEquals(stdout, "C /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
});

Deno.test("LocalRunner: a program that is not there is named with its step", async () => {
  const step = { title: "try what is not there", argv: ["mobula-no-such-program"] };
  const error = await assertRejects(() => runStep(runner, step), CommandError);
  assertEquals(error.code, 127);
  assert(error.message.startsWith("Cannot try what is not there: "));
});

Deno.test("enterNamespace: ip enters by itself", () => {
  const enter = (...argv: string[]) => enterNamespace({ argv, namespace: "mobula" }).join(" ");
  assertEquals(enter("ip", "link"), "ip -n mobula link");
  assertEquals(enter("ip", "-6", "route"), "ip -n mobula -6 route");
  assertEquals(enter("wg", "show"), "ip netns exec mobula wg show");
  assertEquals(enterNamespace({ argv: ["ip", "link"] }), ["ip", "link"]);
});

testInFolder("LocalRunner: writes a file with its folders and its mode", async (folder) => {
  await runner.writeFile({ path: `${folder}/a/b/c`, content: "text\n" });
  await runner.writeFile({ path: `${folder}/a/program`, content: "#!/bin/sh\n", mode: 0o755 });
  await runner.writeFile({ path: `${folder}/a/key`, content: "secret\n", mode: 0o600 });
  assertEquals(await runner.readFile(`${folder}/a/b/c`), "text\n");
  assertEquals(["b/c", "program", "key"].map((name) => modeOf(`${folder}/a/${name}`)), ["644", "755", "600"]);
  assertEquals(namesIn(`${folder}/a`), ["b", "key", "program"]);
});

testInFolder("LocalRunner: the mode does not depend on the umask", async (folder) => {
  const before = Deno.umask(0o077);
  try {
    await runner.writeFile({ path: `${folder}/file`, content: "", mode: 0o755 });
  } finally {
    Deno.umask(before);
  }
  assertEquals(modeOf(`${folder}/file`), "755");
});

testInFolder("LocalRunner: replaces a file as a whole; who has it open keeps the old one", async (folder) => {
  const path = `${folder}/file`;
  await runner.writeFile({ path, content: "the old text, which is longer\n", mode: 0o755 });
  const open = await Deno.open(path);
  try {
    await runner.writeFile({ path, content: "new\n", mode: 0o640 });
    assertEquals(await new Response(open.readable).text(), "the old text, which is longer\n");
  } finally {
    try {
      open.close();
    } catch {
      // The reader has closed it.
    }
  }
  assertEquals([await runner.readFile(path), modeOf(path)], ["new\n", "640"]);
  assertEquals(namesIn(folder), ["file"]);
});

testInFolder("LocalRunner: what an interrupted write left is no obstacle", async (folder) => {
  await Deno.writeTextFile(`${folder}/file.mobula-new`, "half");
  await runner.writeFile({ path: `${folder}/file`, content: "whole\n" });
  assertEquals(namesIn(folder), ["file"]);
});

testInFolder("LocalRunner: a symbolic link is replaced, what it points to stays", async (folder) => {
  await Deno.writeTextFile(`${folder}/target`, "theirs\n");
  await Deno.symlink(`${folder}/target`, `${folder}/link`);
  await runner.writeFile({ path: `${folder}/link`, content: "ours\n" });
  assertEquals(await Deno.readTextFile(`${folder}/target`), "theirs\n");
  assertEquals((await Deno.lstat(`${folder}/link`)).isSymlink, false);
});

testInFolder("LocalRunner: a write that fails leaves nothing half-made", async (folder) => {
  await Deno.mkdir(`${folder}/taken/inside`, { recursive: true });
  await assertRejects(() => runner.writeFile({ path: `${folder}/taken`, content: "text\n" }));
  assertEquals(namesIn(folder), ["taken"]);
});

testInFolder("LocalRunner: removes a file, and one that is not there", async (folder) => {
  await Deno.writeTextFile(`${folder}/file`, "");
  for (const path of [`${folder}/file`, `${folder}/file`, `${folder}/none/file`]) {
    await runner.writeFile({ path, content: undefined });
  }
  assertEquals(namesIn(folder), []);
});

testInFolder(
  "LocalRunner: a file that is not there has no text, one that cannot be read is an error",
  async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    assertEquals(await runner.readFile(`${folder}/none`), undefined);
    assertEquals(await runner.readFile(`${folder}/file/none`), undefined);
    assertEquals(await runner.readFile(`${folder}/file`), "");
    assertEquals(await runner.readFile(folder), undefined);
    const unreadable = "/proc/self/mem";
    await assertRejects(() => runner.readFile(unreadable));
    // Of many it counts as missing: what is compared with it is written anew.
    assertEquals([...await runner.readFiles([`${folder}/file`, unreadable])], [
      [`${folder}/file`, ""],
      [unreadable, undefined],
    ]);
  },
);

Deno.test("run: a program that cannot be started is a failed command, in a shell's exit codes", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/data`, "#!/bin/sh\n", { mode: 0o644 });
    const codeOf = async (name: string) =>
      (await new LocalRunner().run({ title: "start it", argv: [`${directory}/${name}`] })).code;
    assertEquals([await codeOf("none"), await codeOf("data"), await codeOf(".")], [127, 126, 126]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
