import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { limitHosts } from "../../lib/deploy/limit.ts";
import { mergePubkeys, writePubkeysFile } from "../../lib/deploy/load.ts";
import { inParallel, until } from "../../lib/deploy/parallel.ts";
import { UsageError } from "../../lib/errors.ts";
import { Secret } from "../../lib/secret.ts";
import { fleetOf, hostOf } from "./fleet.ts";

const [A, B, C] = [
  "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=",
  "hIA3ikjlSOAo0qqrI+rXaS3ZH04nx7Q2YQ4m2Syzd+U=",
  "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
];
const OLD = "2026-01-02T03:04:05Z";
const NOW = new Date("2026-11-22T10:00:00.123Z");

Deno.test("limitHosts: by name, id and address, in the fleet's order", () => {
  const hosts = [hostOf(2), hostOf(3), hostOf(256, { address: "198.51.100.77" })];
  const limit = (...words: string[]) => limitHosts(hosts, words).map(({ id }) => id);
  assertEquals(limit(), [2, 3, 256]);
  assertEquals(limit("256", "WEB2"), [2, 256]);
  assertEquals(limit("198.51.100.77", "256"), [256]);
  assertEquals(limit("!web3"), [2, 256]);
  assertEquals(limit("!3", "!198.51.100.77"), [2]);
  assertEquals(limit("web2", "web3", "!web3"), [2]);
  assertThrows(() => limit("web3", "!3"), UsageError, "no host is left");
  assertThrows(() => limit("!web9"), UsageError, "web9");
  assertMatch(
    assertThrows(() => limit("web2", "wbe3", "7"), UsageError).message,
    /wbe3, 7.*Did you mean web3/,
  );
});

Deno.test("mergePubkeys: new keys are young, known ones keep their age, strangers leave", () => {
  const fleet = fleetOf([
    hostOf(2),
    hostOf(3),
    hostOf(4),
    hostOf(5, { pinnedKeys: { publicKey: C, privateKey: new Secret("s") } }),
  ]);
  const known = new Map([
    ["198.51.100.2", { publicKey: A, since: OLD }],
    ["198.51.100.3", { publicKey: B, since: OLD }],
    ["198.51.100.9", { publicKey: C, since: OLD }],
  ]);
  const merged = mergePubkeys(fleet, known, new Map([["198.51.100.2", A], ["198.51.100.3", C]]), NOW);
  assertEquals([...merged], [
    ["198.51.100.2", { publicKey: A, since: OLD }],
    ["198.51.100.3", { publicKey: C, since: "2026-11-22T10:00:00Z" }],
    ["198.51.100.5", { publicKey: C, since: "2026-11-22T10:00:00Z" }],
  ]);
});

Deno.test("writePubkeysFile: whole, and only when it changes", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const hosts = `${directory}/hosts.yml`;
    const keys = new Map([["198.51.100.2", { publicKey: A, since: OLD }]]);
    await writePubkeysFile(hosts, keys);
    const path = `${directory}/wireguard_pubkeys.yml`;
    assertMatch(await Deno.readTextFile(path), /198\.51\.100\.2: "gN65/);
    const { ino } = await Deno.stat(path);
    await writePubkeysFile(hosts, keys);
    assertEquals((await Deno.stat(path)).ino, ino);
    await writePubkeysFile(hosts, new Map([["198.51.100.2", { publicKey: B }]]));
    assertEquals([...Deno.readDirSync(directory)].map(({ name }) => name), ["wireguard_pubkeys.yml"]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("inParallel: never more than the limit at once, everything done before an error is thrown", async () => {
  let running = 0;
  let most = 0;
  const done: number[] = [];
  const work = async (item: number) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    if (item === 2) throw new Error("two");
    done.push(item);
  };
  await inParallel([1, 3, 4, 5, 6, 7], 3, work);
  assertEquals([most, done.length], [3, 6]);
  const failed = await inParallel([1, 2, 3], 3, work).catch((error) => error.message);
  assertEquals(failed, "two");
});

Deno.test("until: gives up at the deadline, and when it is interrupted", async () => {
  let count = 0;
  assertEquals(
    await until(() => Promise.resolve(++count === 3 ? count : undefined), {
      deadline: Date.now() + 5000,
      rest: 1,
    }),
    3,
  );
  assertEquals(
    await until(() => Promise.resolve(undefined), { deadline: Date.now() + 5, rest: 1 }),
    undefined,
  );
  const signal = AbortSignal.abort();
  assertEquals(
    await until(() => Promise.resolve(undefined), { deadline: Date.now() + 60_000, rest: 1, signal }),
    undefined,
  );
});
