/**
 * A small program for the tests of the executable: tells its version, or what it sees around itself. Reads stdin, starts `sh`.
 */
import { Command } from "commander";
import { buildInfo, renderBuildInfo } from "../../lib/build_info.ts";
import { hashOfFile, ownExecutable } from "../../lib/executable.ts";

/** What `look` prints as JSON. */
export interface Seen {
  readonly kind: string;
  readonly path: string | undefined;
  readonly hash: string | undefined;
  readonly args: readonly string[];
  readonly stdin: string;
  /** Environment of a child process, as far as the runtime or the loader could have put it there. */
  readonly childEnvironment: string;
  readonly publicKeyLength: number;
  readonly umask: number;
}

async function look(): Promise<Seen> {
  const own = ownExecutable();
  const pair = await crypto.subtle.generateKey("X25519", true, ["deriveBits"]) as CryptoKeyPair;
  const script = 'set | while read -r line; do case $line in MOBULA*|DENO*|LD_*) echo "$line" ;; esac; done';
  const child = await new Deno.Command("sh", { args: ["-c", script] }).output();
  return {
    ...own,
    hash: own.path === undefined ? undefined : await hashOfFile(own.path),
    args: Deno.args,
    stdin: await new Response(Deno.stdin.readable).text(),
    childEnvironment: new TextDecoder().decode(child.stdout),
    publicKeyLength: (await crypto.subtle.exportKey("raw", pair.publicKey)).byteLength,
    umask: Deno.umask(),
  };
}

if (import.meta.main) {
  const program = new Command().name("mobula").version(renderBuildInfo(buildInfo()));
  program.command("look [words...]").allowUnknownOption().action(async () => {
    console.log(JSON.stringify(await look()));
  });
  await program.parseAsync(["deno", "mobula", ...Deno.args]);
}
