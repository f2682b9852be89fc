/**
 * Proof about private keys: nothing that anybody else can read ever holds one.
 */
import { assert, assertEquals } from "@std/assert";
import type { Lab } from "../lab.ts";
import { must } from "../process.ts";
import { ask } from "../snapshot.ts";
import { everywhere, names, type Proof } from "./fleet.ts";

export function declareSecrets(proof: Proof): void {
  proof(
    "private keys: only on their host, for root alone, and nowhere else",
    async (lab, { said, argumentLists }) => {
      const found = await everywhere(lab, ({ name }) => privateKey(lab, name));
      const keys = Object.values(found).map(({ key }) => key);
      assertEquals(new Set(keys).size, names(lab).length, "every host has a key of its own");
      for (const { mode } of Object.values(found)) assertEquals(mode, "600 root root");
      assertEquals(
        await filesWith(lab, keys),
        Object.entries(found).map(([owner, { path }]) => `${owner}:${path}`).sort(),
      );
      const journals = await everywhere(
        lab,
        ({ name }) => ask(lab, name, ["journalctl", "--no-pager", "-q"]),
      );
      const texts = [said, ...argumentLists, ...Object.values(journals)];
      assertEquals(
        texts.filter((text) => keys.some((key) => text.includes(key))).length,
        0,
        "no argument, no log, no output",
      );
      const prepared = [...argumentLists].filter((argv) => argv.includes("mobula host session"));
      assert(prepared.length > 0, "the samples must hold what ran on the hosts");
    },
  );
}

async function privateKey(lab: Lab, host: string): Promise<{ path: string; mode: string; key: string }> {
  const list = (await ask(lab, host, ["sh", "-c", "ls /etc/wireguard/mobula/*.key"])).trim().split("\n");
  assertEquals(list.length, 1, `${host}: one key`);
  const path = list[0]!;
  const mode = (await ask(lab, host, ["stat", "-c", "%a %U %G", path])).trim();
  return { path, mode, key: (await ask(lab, host, ["cat", path])).trim() };
}

/** The patterns come on standard input, so as not to stand in an argument list themselves. */
const GREP = 'grep -rsalF --devices=skip -f /dev/stdin "$@" || true';

/** Files with one of the texts: on the disk and in `/run` of every host, and in the directory of the lab on the deployer. */
async function filesWith(lab: Lab, texts: readonly string[]): Promise<string[]> {
  const options = { stdin: `${texts.join("\n")}\n` };
  const lines = (text: string) => text.split("\n").filter((line) => line !== "");
  const onHosts = await everywhere(lab, async ({ name, directory }) => {
    const disk = lines(await must(["sh", "-c", GREP, "sh", `${directory}/upper`], options));
    const memory = lines((await lab.exec(name, ["sh", "-c", GREP, "sh", "/run"], options)).stdout);
    return [...disk.map((path) => path.replace(`${directory}/upper`, "")), ...memory].map((path) =>
      `${name}:${path}`
    );
  });
  const excluded = ["hosts", "www", "captures"].map((name) => `--exclude-dir=${name}`);
  const deployer = lines(await must(["sh", "-c", GREP, "sh", ...excluded, lab.directory], options));
  return [...Object.values(onHosts).flat(), ...deployer].sort();
}
