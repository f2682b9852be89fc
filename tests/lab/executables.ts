/**
 * The executables that lab tests push, made once for each state of the sources and kept in `.cache/`. Starts Deno, writes files there.
 */
import { fromFileUrl } from "@std/path";
import { getDenort } from "../../scripts/get_denort.ts";
import { must } from "./process.ts";

const ROOT = fromFileUrl(new URL("../..", import.meta.url)).replace(/\/$/, "");
const CACHE = `${ROOT}/.cache`;

/** Everything that decides what an executable is made of. */
const SOURCES = ["main.ts", "deno.json", "deno.lock", "lib", "scripts/compile.ts", "scripts/compile"];

/** How an executable is made: by `deno compile`, or self-unpacking; `chaos` is a compiled one that can be struck (see tests/chaos). */
export type ExecutableKind = "compiled" | "self-unpacking" | "chaos";

const CHAOS_ENTRY = "tests/chaos/main.ts";
const CHAOS_SOURCES = [CHAOS_ENTRY, "tests/chaos/strike.ts"];

/** Path of an executable of this kind made from the present sources, perhaps as another version. */
export async function executable(kind: ExecutableKind, version?: string): Promise<string> {
  const path = `${CACHE}/mobula-${kind}-${await hashOfSources(kind)}${
    version === undefined ? "" : `-${version}`
  }`;
  await Deno.mkdir(CACHE, { recursive: true });
  using lock = await Deno.open(`${CACHE}/mobula-${kind}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await isFile(path)) return path;
  if (version !== undefined) {
    await makeVersion(kind, path, version);
    return path;
  }
  await removeOlder(kind);
  await make(kind, path, ROOT);
  return path;
}

/** From a copy of the sources, in which only the version differs. */
async function makeVersion(kind: ExecutableKind, output: string, version: string): Promise<void> {
  const copy = await Deno.makeTempDir({ dir: CACHE, prefix: "sources-" });
  try {
    await must(["cp", "-r", "--parents", ...SOURCES, copy], { cwd: ROOT });
    const config = JSON.parse(await Deno.readTextFile(`${copy}/deno.json`));
    await Deno.writeTextFile(`${copy}/deno.json`, JSON.stringify({ ...config, version }));
    await make(kind, output, copy);
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
}

async function make(kind: ExecutableKind, output: string, root: string): Promise<void> {
  const env: Record<string, string> = { ...Deno.env.toObject() };
  if (kind !== "self-unpacking" && env.DENORT_BIN === undefined) {
    env.DENORT_BIN = `${CACHE}/denort-2.4.2`;
    await getDenort(env.DENORT_BIN);
  }
  const script = `${root}/scripts/compile.ts`;
  const options = kind === "chaos" ? ["--kind", "compiled", "--entry", CHAOS_ENTRY] : ["--kind", kind];
  await must([Deno.execPath(), "run", "-A", script, ...options, "--output", output], { env, cwd: root });
}

async function removeOlder(kind: ExecutableKind): Promise<void> {
  const older = new RegExp(`^mobula-${kind}-[0-9a-f]{16}(-.*)?$`);
  for await (const { name } of Deno.readDir(CACHE)) {
    if (older.test(name)) await Deno.remove(`${CACHE}/${name}`);
  }
}

async function hashOfSources(kind: ExecutableKind): Promise<string> {
  const sources = kind === "chaos" ? [...SOURCES, ...CHAOS_SOURCES] : SOURCES;
  const files = (await Promise.all(sources.map((name) => filesBelow(`${ROOT}/${name}`)))).flat().sort();
  const texts = await Promise.all(files.map(async (file) => `${file}\n${await Deno.readTextFile(file)}`));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(texts.join("\n")));
  return [...new Uint8Array(digest).slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function filesBelow(path: string): Promise<string[]> {
  if (await isFile(path)) return [path];
  const entries = await Array.fromAsync(Deno.readDir(path));
  return (await Promise.all(entries.map(({ name }) => filesBelow(`${path}/${name}`)))).flat();
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then((found) => found.isFile, () => false);
}
