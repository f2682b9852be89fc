/**
 * An uninstallation with its packages, and what fails on the way. Actions of lib/host on a stand-in of a host.
 */
import { assert, assertEquals } from "@std/assert";
import { PACKAGES_FILE } from "../../lib/host/paths.ts";
import { uninstall } from "../../lib/host/uninstall.ts";
import { type Bench, bench, everyCall, isChange, OVER, strikeAt } from "../fake/bench.ts";
import type { Fate } from "../fake_host.ts";

/** The packages that the host lacks, with the commands of each. */
const LACKS = { nftables: ["nft"], "dnsmasq-base": ["dnsmasq"] };

function purged({ deployer }: Bench) {
  return deployer.call("uninstall", (context) => uninstall({ purge: true }, context), deployer.connect());
}

function traces({ host }: Bench): string[] {
  return [...host.files.keys(), ...host.links.keys()].filter((path) => path.includes("mobula"));
}

Deno.test("purge: what the installation brought goes, what is held or needed by others stays", async () => {
  await bench({}, async (bench) => {
    const { host, time } = bench;
    assertEquals(host.json(PACKAGES_FILE), ["dnsmasq-base", "nftables"]);
    host.installed.add("admins-own");
    host.dependents.set("nftables", ["admins-own"]);
    const { removing, kept } = await purged(bench);
    assertEquals([removing, kept], [["dnsmasq-base"], ["nftables"]]);
    await time.pause(OVER * 1000);
    assertEquals([[...host.installed].sort(), await host.standing(), traces(bench)], [
      ["admins-own", "nftables"],
      "baseline",
      [],
    ]);
  }, { lacks: LACKS });
  await bench({}, async (bench) => {
    bench.host.held.add("dnsmasq-base");
    assertEquals(await purged(bench), { started: true, removing: ["nftables"], kept: ["dnsmasq-base"] });
  }, { lacks: LACKS });
});

/** Strikes at one call of the rollback of an installation with packages. */
async function purgeStruck(number: number, fate: Fate): Promise<string | undefined> {
  let struck: string | undefined;
  await bench({}, async (bench) => {
    const { host, time, deployer } = bench;
    await purged(bench);
    const strike = strikeAt(host, { number, fate, counts: fate === "fail" ? () => true : isChange });
    await time.pause(OVER * 1000);
    struck = strike.what;
    delete host.fate;
    assertEquals(await host.standing(), "baseline", struck);
    // That a package stays is no reason to leave the rest.
    if (fate !== "fail") assertEquals([...host.installed], [], struck);
    await deployer.push();
    await purged(bench);
    await time.pause(OVER * 1000);
    assertEquals(traces(bench), [], struck);
  }, { lacks: LACKS });
  return struck;
}

for (const fate of ["fail", "kill", "power cut"] as const) {
  Deno.test(`purge: ${fate} at each call, the host's network is back`, async () => {
    const calls = await everyCall((number) => purgeStruck(number, fate));
    assert(calls > 10, `${calls} calls`);
  });
}

Deno.test("prepare: packages that cannot be installed leave the host as it was, and the next push does it", async () => {
  await bench(undefined, async (bench) => {
    const { host, deployer } = bench;
    host.fate = ({ what }) => what.includes("apt-get") && what.includes("install") ? "fail" : "done";
    const failed = await deployer.push().then(() => false, () => true);
    assertEquals([failed, await host.standing(), [...host.installed]], [true, "baseline", []]);
    delete host.fate;
    await deployer.push();
    assertEquals([await host.standing(), [...host.installed].sort()], [
      "generation 1",
      Object.keys(LACKS).sort(),
    ]);
  }, { lacks: LACKS });
});
