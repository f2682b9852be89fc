/** Every rendered file is taken by the program that it is for: nft, dnsmasq, sh, systemd. Writes a folder that is removed. */
import { assert, assertEquals } from "@std/assert";
import { LocalRunner } from "../../lib/host/local_runner.ts";
import { runStep } from "../../lib/host/run_steps.ts";
import { EXECUTABLE } from "../../lib/host/paths.ts";
import { lookScript } from "../../lib/net/seen.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { ensurePackages } from "../lab/packages.ts";
import { allFiles, casesOf, EXAMPLE_FILES } from "../golden/cases.ts";
import { fleetOf, inputFor, type Mode, MODES } from "../net/fixtures.ts";

await ensurePackages(["dnsmasq-base", "nftables", "systemd"]);

const runner = new LocalRunner();
const cases = (await Promise.all(EXAMPLE_FILES.map(casesOf))).flat();
const NEEDS_ROOT = { ignore: Deno.uid() !== 0 };

/** The hosts of the examples, and those with the ids at the edges. */
const inputs = [
  ...cases,
  ...[1, 255, 256, 32767].map((id) => ({
    name: `id ${id}`,
    input: inputFor(fleetOf([id, 32766]), id, "userspace"),
  })),
];

Deno.test({
  name: "renderNftables: nft takes every ruleset, on a blank kernel and again",
  ...NEEDS_ROOT,
  async fn(t) {
    for (const { name, input } of inputs) {
      await t.step(name, async () => {
        const text = allFiles(input).at(-1)?.content ?? "";
        assert(text.includes("table inet mobula"));
        const script =
          `nft -c -f "$1" && nft -f "$1" && nft -c -f "$1" && nft -f "$1" && nft -s list ruleset`;
        const path = await Deno.makeTempFile({ prefix: "mobula-test-" });
        try {
          await Deno.writeTextFile(path, text);
          const argv = ["unshare", "-n", "sh", "-c", script, "sh", path];
          const listing = await runStep(runner, { title: "load the ruleset", argv });
          assertEquals(listing.match(/^table /gm)?.length, 2);
          assertEquals(listing.match(/policy drop/g)?.length, 2);
        } finally {
          await Deno.remove(path);
        }
      });
    }
  },
});

Deno.test("renderDnsmasq: dnsmasq takes every configuration", async (t) => {
  for (const { name, input } of inputs) {
    await t.step(name, async () => {
      const stdin = allFiles(input).find(({ path }) => path.endsWith("/dnsmasq.conf"))?.content ?? "";
      assert(stdin.includes("listen-address="));
      await runStep(runner, { title: "test", argv: ["dnsmasq", "--test", "--conf-file=/dev/stdin"], stdin });
    });
  }
});

for (const mode of Object.keys(MODES) as Mode[]) {
  const files = renderFiles(inputFor(fleetOf([2, 3]), 2, mode));

  Deno.test(`renderUnits: sh takes every program in ${mode} mode`, async () => {
    const programs = files.filter(({ path }) => path.startsWith("/opt/mobula/bin/"));
    assert(programs.length >= 7);
    for (const { path, content, mode } of programs) {
      assertEquals([mode, content?.split("\n")[0]], [0o755, "#!/bin/sh"], path);
      await runStep(runner, { title: `check ${path}`, argv: ["sh", "-n"], stdin: content });
    }
  });

  Deno.test(`renderUnits: systemd understands every unit in ${mode} mode`, async () => {
    const root = await Deno.makeTempDir({ prefix: "mobula-test-" });
    try {
      for (const file of [...files, { path: EXECUTABLE, content: "#!/bin/sh\n", mode: 0o755 }]) {
        await runner.writeFile({ ...file, path: root + file.path });
      }
      const units = files.map(({ path }) => path).filter((path) => /\/mobula[^/]*\.service$/.test(path));
      assert(units.length >= 5);
      const argv = [
        "systemd-analyze",
        "verify",
        "--man=no",
        `--root=${root}`,
        ...units.map((path) => root + path),
      ];
      const { code, stderr } = await runner.run({ title: "verify the units", argv });
      const ours = stderr.split("\n").filter((line) => line.includes("mobula"));
      assertEquals({ code, ours }, { code: 0, ours: [] }, stderr);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  });

  Deno.test(`renderUnits: every program that a unit or a program starts is there in ${mode} mode`, () => {
    const paths = new Set([EXECUTABLE, ...files.map(({ path }) => path)]);
    for (const { path, content } of files.filter(({ path }) => /mobula/.test(path))) {
      for (const [program] of content?.matchAll(/\/opt\/mobula\/bin\/[\w-]+/g) ?? []) {
        assert(paths.has(program), `${path} needs ${program}`);
      }
    }
  });
}

Deno.test("lookScript: is a program for a shell", async () => {
  const { sysctls, units } = wantedNetwork(inputFor(fleetOf([2, 3]), 2, "userspace"));
  const stdin = lookScript(sysctls, units, ["/etc/a"]);
  await runStep(runner, { title: "check the script", argv: ["sh", "-n"], stdin });
});
