/**
 * The bundles of the program: what of Node's modules a start loads, and how much text a verb of a host does.
 */
import { assert, assertEquals } from "@std/assert";
import { bundle, cheapRequire, deferNodeImports } from "../../scripts/compile/bundle.ts";
import { execute, ROOT } from "./helpers.ts";

const PROGRAM = { entry: `${ROOT}/main.ts`, config: `${ROOT}/deno.json` };

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "mobula-bundle-" });
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("cheapRequire: what the bundler writes for require loads nothing before a call", () => {
  const call = 'console.log(r("node:path").sep);';
  const written = "var q=1;import{createRequire as __deno_internal_createRequire} from " +
    '"node:module";var r=__deno_internal_createRequire(import.meta.url);' + call;
  assertEquals(
    cheapRequire(written),
    `var q=1;var r=(name) => globalThis.process.getBuiltinModule(name);${call}`,
  );
  assertEquals(cheapRequire(call), call);
});

Deno.test("deferNodeImports: every form of import gets its value when it is asked for, and not before", async () => {
  const program = 'import*as a from"node:path";import b from"node:os";import{EOL as c,cpus}from"node:os";' +
    '\nimport { sep } from "node:path";import d,{join as e}from"node:path";let f=typeof a;' +
    "globalThis.mobulaLoadNode();" +
    "console.log(f, a.sep, typeof b.cpus, c === cpus.EOL, typeof cpus, sep, d.sep, e('x', 'y'));";
  const deferred = deferNodeImports(program);
  assert(!/import/.test(deferred), deferred);
  await inDirectory(async (directory) => {
    await Deno.writeTextFile(`${directory}/program.js`, deferred);
    const { stdout, stderr } = await execute([
      Deno.execPath(),
      "run",
      "-A",
      "--no-config",
      `${directory}/program.js`,
    ]);
    assertEquals([stdout, stderr], ["undefined / function false function / / x/y\n", ""]);
  });
});

Deno.test("deferNodeImports: a program that never asks for them keeps its imports", () => {
  const program = 'import a from"node:os";console.log(a);';
  assertEquals(deferNodeImports(program), program);
});

Deno.test("bundle in one file: loads no module of Node before the command line does", async () => {
  await inDirectory(async (directory) => {
    const output = `${directory}/program.js`;
    assertEquals(await bundle({ ...PROGRAM, output }), undefined);
    const text = await Deno.readTextFile(output);
    assertEquals(text.match(/(\bfrom|\bimport) ?"node:[^"]*"|\bcreateRequire\b/g), null);
    // What it defers is what the command line and its libraries need, and they get it.
    assert(text.includes('getBuiltinModule("node:os")'));
    const { code, stdout } = await execute([Deno.execPath(), "run", "-A", "--no-config", output, "--help"]);
    assertEquals([code, stdout.split("\n")[0]], [0, "Usage: mobula [options] [command]"]);
  });
});

Deno.test("bundle in several files: host status loads no module of Node and little text", async () => {
  await inDirectory(async (output) => {
    assertEquals(await bundle({ ...PROGRAM, output, split: true }), undefined);
    const names = Array.from(Deno.readDirSync(output), ({ name }) => name);
    const loaded = new Set(names.filter((name) => /^(main|serve|status)[-.]/.test(name)));
    assertEquals(loaded.size, 3);
    let text = "";
    for (const name of loaded) {
      const part = await Deno.readTextFile(`${output}/${name}`);
      for (const [, other] of part.matchAll(/(?:\bfrom|\bimport) ?"\.\/([^"]+)"/g)) loaded.add(other!);
      text += part;
    }
    assertEquals(text.match(/(\bfrom|\bimport) ?"(node|npm):[^"]*"|\bcreateRequire\b/g), null);
    // 15 kB now, all of the program is 560 kB.
    assert(text.length < 40_000, `${text.length} bytes of ${[...loaded].join(", ")}`);
  });
});

Deno.test("bundle in several files: a host tells what is wrong with a request, not only that it is", async () => {
  await inDirectory(async (output) => {
    assertEquals(await bundle({ ...PROGRAM, output, split: true }), undefined);
    const argv = [Deno.execPath(), "run", "-A", "--no-config", `${output}/main.js`, "host", "stage"];
    const { code, stdout } = await execute(argv, { input: "{}" });
    assertEquals(code, 1);
    assert(stdout.includes("expected object, received undefined"), stdout);
  });
});
