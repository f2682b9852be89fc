/**
 * The file this program runs from, its hash, and a compressed copy of it. Reads and writes files.
 *
 * Node's modules are loaded where they are used: each costs every start of the program some milliseconds otherwise.
 */
import { buildInfo, type BuildKind } from "./build_info.ts";

/** The running program: one file that can be copied to another machine, or a source tree that cannot. */
export type OwnExecutable =
  | { readonly kind: Exclude<BuildKind, "source">; readonly path: string }
  | { readonly kind: "source"; readonly path: undefined };

/** Finds the file this program runs from. */
export function ownExecutable(): OwnExecutable {
  const { kind } = buildInfo();
  switch (kind) {
    case "compiled":
      return { kind, path: Deno.execPath() };
    case "self-unpacking":
      // Deno.execPath() is the C library's loader here.
      return { kind, path: globalThis.mobulaSelf! };
    case "source":
      return { kind, path: undefined };
  }
}

/** SHA-256 of a file, in hex; the file is read piece by piece. */
export async function hashOfFile(path: string): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  const bytes = new Uint8Array(1 << 20);
  // Without streams, which take more time than the hash.
  const file = await Deno.open(path);
  try {
    for (let count; (count = await file.read(bytes)) !== null;) hash.update(bytes.subarray(0, count));
    return hash.digest("hex");
  } finally {
    file.close();
  }
}

/**
 * Writes a gzip copy for the way to a host and gives its length in bytes. A self-unpacking file is compressed already: storing it
 * costs a few bytes, compressing it again would cost seconds.
 */
export async function gzipCopy(
  own: { readonly kind: BuildKind; readonly path: string },
  target: string,
): Promise<number> {
  const [fs, stream, zlib] = await Promise.all([
    import("node:fs"),
    import("node:stream/promises"),
    import("node:zlib"),
  ]);
  const { Z_NO_COMPRESSION, Z_DEFAULT_COMPRESSION } = zlib.constants;
  const level = own.kind === "self-unpacking" ? Z_NO_COMPRESSION : Z_DEFAULT_COMPRESSION;
  const input = fs.createReadStream(own.path, { highWaterMark: 1 << 20 });
  await stream.pipeline(input, zlib.createGzip({ level }), fs.createWriteStream(target, { mode: 0o600 }));
  return (await Deno.stat(target)).size;
}
