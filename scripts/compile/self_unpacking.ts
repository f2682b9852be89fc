/**
 * The substitute where `deno compile` has no runtime part: a shell script with Deno, the C library and the program behind it.
 * Starts ldd, reads them, writes the file and a cache of the compressed runtime.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGzip, gzipSync } from "node:zlib";
import { basename } from "@std/path";
import { demand } from "./run.ts";
import { type Part, renderHead } from "./self_unpacking_head.ts";

/** First line of the bundled program: takes what the head says out of the environment before any child could inherit it. */
export const selfUnpackingPrelude = `globalThis.mobulaSelf = Deno.env.get("MOBULA_SELF"); ` +
  `for (const name of ["MOBULA_SELF", "DENO_DIR", "DENO_NO_UPDATE_CHECK", "DENO_NO_PACKAGE_JSON"]) Deno.env.delete(name);\n`;

/** What goes into the file. */
export interface PackOptions {
  /** The bundle. */
  readonly program: string;
  readonly version: string;
  /** The Deno binary to carry. */
  readonly deno: string;
  readonly output: string;
  /** Directory for the compressed runtime, which stays the same from build to build. */
  readonly cache: string;
}

interface Member extends Part {
  readonly path: string;
}

/** Writes the self-unpacking file. */
export async function packProgram({ program, version, deno, output, cache }: PackOptions): Promise<void> {
  const libraries = await findLibraries(deno);
  const loader = libraries.find(({ name }) => name.startsWith("ld-linux"));
  if (loader === undefined) {
    throw new Error(`Cannot pack ${deno}: no loader among what ldd lists; expected glibc`);
  }
  const runtime = [await memberOf("deno", deno), ...libraries];
  const compressed = await compressRuntime(runtime, cache);
  const text = new TextEncoder().encode(await Deno.readTextFile(program));
  const tail = gzipSync(text, { level: 9 });
  const hash = createHash("sha256").update(basename(compressed)).update(tail).digest("hex").slice(0, 32);
  const parts = [...runtime, { name: "program.js", size: text.length }];
  await Deno.writeTextFile(output, renderHead({ version, hash, parts, loader: loader.name }), {
    mode: 0o755,
  });
  await pipeline(createReadStream(compressed), createWriteStream(output, { flags: "a" }));
  // Decompressing gzip data that was joined gives the joined contents.
  await Deno.writeFile(output, tail, { append: true });
  await Deno.chmod(output, 0o755);
}

/** The libraries that ldd lists, big ones first, since each unpacked file carries all that follow it. */
async function findLibraries(deno: string): Promise<Member[]> {
  const listed = await demand(`find the libraries of ${deno}`, ["ldd", deno]);
  const members = await Promise.all(parseLdd(listed).map((path) => memberOf(basename(path), path)));
  return members.sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
}

/** Takes the paths out of what ldd says: `libm.so.6 => /lib/libm.so.6 (0x7f…)`, `/lib64/ld-linux-x86-64.so.2 (0x7f…)`. */
export function parseLdd(text: string): string[] {
  const missing = text.split("\n").find((line) => line.includes("not found"));
  if (missing !== undefined) {
    throw new Error(`Cannot pack Deno: ${missing.trim()}; expected all its libraries here`);
  }
  return [...text.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map((match) => match[1]!);
}

async function memberOf(name: string, path: string): Promise<Member> {
  return { name, path, size: (await Deno.stat(path)).size };
}

/** Compresses the parts as one stream, once: the result is kept under the hash of the parts. */
async function compressRuntime(parts: readonly Member[], cache: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of contentOf(parts)) hash.update(piece);
  const target = `${cache}/runtime-${hash.digest("hex")}.gz`;
  if (await Deno.stat(target).then(() => true, () => false)) return target;
  await Deno.mkdir(cache, { recursive: true });
  const unfinished = await Deno.makeTempFile({ dir: cache, prefix: ".runtime-" });
  try {
    await pipeline(contentOf(parts), createGzip({ level: 9 }), createWriteStream(unfinished));
    await Deno.rename(unfinished, target);
  } catch (error) {
    await Deno.remove(unfinished);
    throw error;
  }
  return target;
}

async function* contentOf(parts: readonly Member[]): AsyncGenerator<Uint8Array> {
  for (const { path } of parts) yield* createReadStream(path, { highWaterMark: 1 << 20 });
}
