/**
 * The self-unpacking executable, really made and really run. Slow; needs root for the tests with mounts.
 */
import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { makeExecutable } from "../../scripts/compile.ts";
import { hashOfFile } from "../../lib/executable.ts";
import { execute, executeWithMounts, makeBareRoot, namesIn, ROOT, until } from "./helpers.ts";
import type { Seen } from "./program.ts";

/** Makes the file once for all tests of this file; the last one removes it. */
const directory = await Deno.makeTempDir({ prefix: "mobula-executable-" });
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
const file = `${directory}/mobula`;
const made = await makeExecutable({
  entry: `${ROOT}/tests/executable/program.ts`,
  output: file,
  kind: "self-unpacking",
});
const headLength = Number((await firstText(file)).match(/from byte (\d+) on/)![1]) - 1;
const VERSION = /^mobula \d+\.\d+\.\d+ \(self-unpacking, Deno \d+\.\d+\.\d+\)\n$/;

async function firstText(path: string): Promise<string> {
  using open = await Deno.open(path);
  const piece = new Uint8Array(1000);
  await open.read(piece);
  return new TextDecoder().decode(piece);
}

let bases = 0;
async function newBase(): Promise<string> {
  const base = `${directory}/base-${++bases}`;
  await Deno.mkdir(base, { mode: 0o700 });
  return base;
}

function unpackInto(base: string): { env: Record<string, string> } {
  return { env: { MOBULA_UNPACK_DIR: base } };
}

Deno.test("self-unpacking: is small enough to travel and says what it is", async () => {
  assertEquals(made.kind, "self-unpacking");
  assert(made.size <= 45e6, `${made.size} bytes`);
  const { code, stdout, stderr } = await execute([file, "--version"], unpackInto(await newBase()));
  assertMatch(stdout, VERSION);
  assertEquals([code, stderr], [0, ""]);
});

Deno.test("self-unpacking: unpacks once", async () => {
  const base = await newBase();
  await execute([file, "--version"], unpackInto(base));
  const [hash, ...more] = await namesIn(base);
  assertEquals(more, []);
  const before = await Deno.stat(`${base}/${hash}/deno`);
  const { stdout } = await execute([file, "--version"], unpackInto(base));
  assertMatch(stdout, VERSION);
  assertEquals((await Deno.stat(`${base}/${hash}/deno`)).ino, before.ino);
  assertEquals(await namesIn(base), [hash]);
});

Deno.test("self-unpacking: a later start runs one program beside its own", async () => {
  const base = await newBase();
  await execute([file, "--version"], unpackInto(base));
  const programs = await newBase();
  const text = `#!/bin/sh\necho "$0 $*" >>"${programs}/log"\nexec /bin/ls "$@"\n`;
  await Deno.writeTextFile(`${programs}/ls`, text, { mode: 0o755 });
  // Any other program is not found, and the shell says so.
  const { env } = unpackInto(base);
  const { code, stdout, stderr } = await execute([file, "--version"], { env: { ...env, PATH: programs } });
  assertMatch(stdout, VERSION);
  assertEquals([code, stderr], [0, ""]);
  assertEquals(await Deno.readTextFile(`${programs}/log`), `${programs}/ls -ld . ..\n`);
});

Deno.test("self-unpacking: the program sees arguments, stdin and its own file, its children nothing of the head", async () => {
  const words = ["look", "a b", "$(c)", "", "-x", "--version=1"];
  const { stdout, stderr } = await execute([file, ...words], {
    ...unpackInto(await newBase()),
    input: "some\ninput",
  });
  assertEquals(stderr, "");
  const seen: Seen = JSON.parse(stdout);
  assertEquals(seen.args, words);
  assertEquals(seen.stdin, "some\ninput");
  assertEquals([seen.kind, seen.path, seen.hash], ["self-unpacking", file, await hashOfFile(file)]);
  // What the tests themselves were started with is not the head's.
  const own = /^MOBULA_(UNPACK_DIR|TEST_\w+|LAB_\w+|VM_\w+)=/;
  assertEquals(seen.childEnvironment.split("\n").filter((line) => !own.test(line)), [""]);
  assertEquals(seen.publicKeyLength, 32);
});

Deno.test("self-unpacking: the program has the umask of its caller, also in the start that unpacks", async () => {
  const base = await newBase();
  const script = 'umask 027 && MOBULA_UNPACK_DIR="$2" "$1" look';
  for (const _ of ["unpacks", "does not"]) {
    const { stdout } = await execute(["sh", "-c", script, "sh", file, base]);
    assertEquals((JSON.parse(stdout) as Seen).umask, 0o027);
  }
});

Deno.test("self-unpacking: started by a relative path it knows its absolute one", async () => {
  const base = await newBase();
  const script = 'cd "$1" && MOBULA_UNPACK_DIR="$2" ./mobula look';
  const { stdout } = await execute(["sh", "-c", script, "sh", directory, base]);
  assertEquals(await Deno.realPath(JSON.parse(stdout).path), await Deno.realPath(file));
});

Deno.test("self-unpacking: several at once all succeed and leave one directory", async () => {
  const base = await newBase();
  const all = await Promise.all([1, 2, 3].map(() => execute([file, "--version"], unpackInto(base))));
  for (const { code, stdout, stderr } of all) {
    assertMatch(stdout, VERSION);
    assertEquals([code, stderr], [0, ""]);
  }
  const [hash, ...more] = await namesIn(base);
  assertEquals(more, []);
  assertEquals((await namesIn(`${base}/${hash}`)).filter((name) => name.startsWith(".")), []);
});

Deno.test("self-unpacking: killed half-way leaves nothing that counts, the next start cleans up", async () => {
  const base = await newBase();
  const killed = new Deno.Command(file, {
    args: ["--version"],
    ...unpackInto(base),
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until("the unpacking to begin", async () => (await namesIn(base)).length > 0);
  killed.kill("SIGKILL");
  await killed.status;
  assertEquals(await namesIn(base), [`.new-${killed.pid}`]);
  const { stdout } = await execute([file, "--version"], unpackInto(base));
  assertMatch(stdout, VERSION);
  assertEquals((await namesIn(base)).filter((name) => name.startsWith(".")), []);
});

Deno.test("self-unpacking: asked to end half-way, it removes what it has begun", async () => {
  const base = await newBase();
  const ended = new Deno.Command(file, {
    args: ["--version"],
    ...unpackInto(base),
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until("the unpacking to begin", async () => (await namesIn(base)).length > 0);
  ended.kill("SIGTERM");
  assertEquals((await ended.status).code, 143);
  assertEquals(await namesIn(base), []);
});

for (
  const [what, length] of [
    ["only the head", headLength],
    ["half of it", Math.floor(made.size / 2)],
    ["all but the program", made.size - 50_000],
    ["all but the last byte", made.size - 1],
  ] as const
) {
  Deno.test(`self-unpacking: a truncated file (${what}) gets a clear error`, async () => {
    const base = await newBase();
    const cut = `${base}-cut`;
    await Deno.copyFile(file, cut);
    await Deno.truncate(cut, length);
    const { code, stdout, stderr } = await execute([cut, "--version"], unpackInto(base));
    assertEquals([code, stdout], [70, ""]);
    assertMatch(
      stderr,
      /^mobula: Cannot unpack .*unexpected end of file.*; expected a complete file and \d+ MB/s,
    );
    assertStringIncludes(stderr, "copy mobula again");
    assertEquals(await namesIn(base), []);
  });
}

Deno.test("self-unpacking: a file that ends before the program is not taken for a complete one", async () => {
  const base = await newBase();
  const cut = `${base}-cut`;
  const bytes = await Deno.readFile(file);
  await Deno.writeFile(cut, bytes.subarray(0, lastMemberOf(bytes)), { mode: 0o755 });
  const { code, stderr } = await execute([cut, "--version"], unpackInto(base));
  assertEquals(code, 70);
  assertStringIncludes(stderr, "the end is missing");
});

/** Offset of the last gzip header (RFC 1952: 1f 8b 08, no flags, no time). */
function lastMemberOf(bytes: Uint8Array): number {
  const header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
  for (let at = bytes.length - header.length; at > 0; at--) {
    if (header.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  throw new Error("Cannot find a gzip header: none in the file");
}

Deno.test("self-unpacking: a file cut inside its head does nothing and fails", async () => {
  const cut = `${await newBase()}-cut`;
  await Deno.copyFile(file, cut);
  await Deno.truncate(cut, Math.floor(headLength * 0.9));
  const { code, stdout } = await execute([cut, "--version"]);
  assertNotEquals(code, 0);
  assertEquals(stdout, "");
});

Deno.test("self-unpacking: a damaged file gets a clear error", async () => {
  const base = await newBase();
  const damaged = `${base}-damaged`;
  const bytes = await Deno.readFile(file);
  bytes.fill(0, made.size / 2, made.size / 2 + 64);
  await Deno.writeFile(damaged, bytes, { mode: 0o755 });
  const { code, stderr } = await execute([damaged, "--version"], unpackInto(base));
  assertEquals(code, 70);
  assertMatch(stderr, /^mobula: Cannot unpack .*; expected a complete file/s);
  assertEquals(await namesIn(base), []);
});

Deno.test("self-unpacking: refuses a directory that others can write to", async () => {
  const base = await newBase();
  await execute([file, "--version"], unpackInto(base));
  const [hash] = await namesIn(base);
  for (const path of [base, `${base}/${hash}`]) {
    await Deno.chmod(path, 0o777);
    const { code, stdout, stderr } = await execute([file, "--version"], unpackInto(base));
    assertEquals([code, stdout], [70, ""]);
    assertStringIncludes(stderr, `Cannot run from ${path}:`);
    await Deno.chmod(path, 0o700);
  }
  await Deno.rename(`${base}/${hash}`, `${base}-moved`);
  await Deno.symlink(`${base}-moved`, `${base}/${hash}`);
  assertEquals((await execute([file, "--version"], unpackInto(base))).code, 70);
});

Deno.test("self-unpacking: refuses a directory of somebody else", async () => {
  const base = await newBase();
  await Deno.chown(base, 65534, 65534);
  const { code, stderr } = await execute([file, "--version"], unpackInto(base));
  assertEquals(code, 70);
  assertStringIncludes(stderr, `Cannot run from ${base}:`);
});

Deno.test("self-unpacking: keeps the newest two directories, and what is not its own", async () => {
  const base = await newBase();
  const old = ["1", "2", "3"].map((digit) => digit.repeat(32));
  for (const [index, name] of [...old, "notes"].entries()) {
    await Deno.mkdir(`${base}/${name}`);
    await Deno.utime(`${base}/${name}`, 1000 + index, 1000 + index);
  }
  await execute([file, "--version"], unpackInto(base));
  const left = (await namesIn(base)).filter((name) => name !== "notes");
  assertEquals(left.length, 2);
  assert(left.includes(old[2]!));
  assert((await namesIn(base)).includes("notes"));
});

for (
  const [what, options] of [["a full disk", "size=1m"], ["a disk full at the libraries", "size=97m"], [
    "read-only",
    "ro",
  ]] as const
) {
  Deno.test(`self-unpacking: ${what} gets a clear error and leaves nothing`, async () => {
    const script =
      'mount -t tmpfs -o "$3,mode=700" none "$1"; MOBULA_UNPACK_DIR="$1" "$2" --version || echo $?; ls -A "$1"';
    const { stdout, stderr } = await executeWithMounts(script, await newBase(), file, options);
    assertEquals(stdout, "70\n");
    assertMatch(stderr, /^mobula: Cannot unpack .*(No space left on device|Read-only file system)/s);
    assertStringIncludes(stderr, "set MOBULA_UNPACK_DIR");
  });
}

Deno.test("self-unpacking: a file system mounted noexec gets a clear error", async () => {
  const script =
    'mount -t tmpfs -o noexec,mode=700 none "$1"; MOBULA_UNPACK_DIR="$1" "$2" --version || echo $?';
  const { stdout, stderr } = await executeWithMounts(script, await newBase(), file);
  assertEquals(stdout, "70\n");
  assertStringIncludes(stderr, "noexec");
});

Deno.test("self-unpacking: runs in a root file system without a C library", async () => {
  const root = await newBase();
  await makeBareRoot(root);
  await Deno.copyFile(file, `${root}/mobula`);
  assertEquals(await namesIn(root), ["bin", "dev", "mobula", "proc"]);
  const script = 'mount -t proc none "$1/proc"; mount --bind /dev "$1/dev"; chroot "$1" /bin/sh -c "$2"';
  const inside =
    "unset MOBULA_UNPACK_DIR; export PATH=/bin; /mobula --version; /mobula look; ls -A /var/cache/mobula";
  const { code, stdout, stderr } = await executeWithMounts(script, root, inside);
  assertEquals([code, stderr], [0, ""]);
  const [version, seen, hash] = stdout.split("\n");
  assertMatch(`${version}\n`, VERSION);
  assertEquals(JSON.parse(seen!).path, "/mobula");
  assertMatch(hash!, /^[0-9a-f]{32}$/);
});

Deno.test("self-unpacking: busybox tells of a truncated file, too", async () => {
  const root = await newBase();
  await makeBareRoot(root);
  await Deno.copyFile(file, `${root}/mobula`);
  await Deno.truncate(`${root}/mobula`, made.size - 20_000);
  const { code, stderr } = await execute(["chroot", root, "/bin/sh", "-c", "PATH=/bin; /mobula --version"]);
  assertEquals(code, 70);
  assertMatch(stderr, /^mobula: Cannot unpack .*; expected a complete file/s);
});
