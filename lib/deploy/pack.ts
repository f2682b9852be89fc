/**
 * The executable that a push puts on the hosts: this program's own file, or one made from source. Effects: reads and writes files,
 * may run the compiler.
 */
import { fromFileUrl } from "@std/path";
import { HostError } from "../errors.ts";
import { gzipCopy, hashOfFile, ownExecutable } from "../executable.ts";

/** An executable that is packed when somebody needs it, and then only once. */
export interface LazyPackage {
  /** SHA-256 (hex) of the executable. */
  readonly hash: string;
  /** Path of the gzip file. */
  packed(): Promise<string>;
}

/** SHA-256 (hex) of the executable that a push would send; undefined where that would be made from source first. */
export async function hashToSend(given: string | undefined): Promise<string | undefined> {
  const path = given ?? ownExecutable().path;
  return path === undefined ? undefined : await hashOfFile(path);
}

/** Finds the executable (`given`, or this program's own, or one made now) and its hash. */
export async function packOwnExecutable(given: string | undefined, directory: string): Promise<LazyPackage> {
  const path = given ?? ownExecutable().path ?? await madeFromSource();
  const hash = await hashOfFile(path);
  const target = `${directory}/mobula.gz`;
  let packed: Promise<string> | undefined;
  return {
    hash,
    packed: () => packed ??= pack(path, target),
  };
}

async function pack(path: string, target: string): Promise<string> {
  await gzipCopy({ kind: await isScript(path) ? "self-unpacking" : "compiled", path }, target);
  return target;
}

/** An executable that unpacks itself begins as a shell script. */
async function isScript(path: string): Promise<boolean> {
  const file = await Deno.open(path);
  try {
    const head = new Uint8Array(2);
    await file.read(head);
    return new TextDecoder().decode(head) === "#!";
  } finally {
    file.close();
  }
}

/** Started from source: the compile script beside it makes `dist/mobula`. */
async function madeFromSource(): Promise<string> {
  const root = fromFileUrl(new URL("../..", import.meta.url));
  const compile = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--config", `${root}/deno.json`, `${root}/scripts/compile.ts`],
    cwd: root,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  const { success, stderr } = await compile.output();
  if (!success) {
    const said = new TextDecoder().decode(stderr).trim().split("\n").slice(-5).join("\n  ");
    throw new HostError(`Cannot make executable from source: the compile script failed:\n  ${said}`);
  }
  return `${root}/dist/mobula`;
}
