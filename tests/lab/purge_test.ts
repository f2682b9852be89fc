/**
 * `uninstall --purge`: the packages that an installation has brought go with it, those that were there before, are held, or are needed
 * by others stay. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { expectCode, mobula, setStage } from "./proof.ts";
import { ask } from "./snapshot.ts";

const HOSTS: readonly HostOptions[] = [
  { name: "bare", address: "198.51.100.2", suite: "bookworm", image: "bare" },
  { name: "needy", address: "198.51.100.3", suite: "trixie", image: "bare" },
];

interface Before {
  readonly executable: string;
  /** Installed packages by host. */
  readonly packages: ReadonlyMap<string, readonly string[]>;
}

const { proof } = setStage<Before>({
  name: "purge",
  hosts: HOSTS,
  prepare: async (lab) => {
    await writeInventory(lab);
    const packages = new Map<string, readonly string[]>();
    for (const { name } of HOSTS) packages.set(name, await installed(lab, name));
    return { executable: await executable("compiled"), packages };
  },
});

async function installed(lab: Lab, host: string): Promise<string[]> {
  const said = await ask(lab, host, ["dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}\\n"]);
  return said.split("\n").filter((line) => / .i/.test(line)).map((line) => line.split(" ")[0]!).sort();
}

/** A package of the admin's own that needs one of ours. */
const OWN_PACKAGE = `d=$(mktemp -d); mkdir "$d/DEBIAN"
printf 'Package: admins-own\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: a\\nDepends: nftables\\n' >"$d/DEBIAN/control"
dpkg-deb -b "$d" "$d.deb" && dpkg -i "$d.deb" && rm -r "$d" "$d.deb"
apt-mark hold dnsmasq-base
`;

proof(
  "uninstall --purge: what was there before is there again, and what others need or hold",
  async (lab, before) => {
    expectCode(await mobula(lab, before, "push", "--no-reboot"), 0, "push");
    const full = await installed(lab, "needy");
    for (const name of ["openvswitch-switch", "wireguard-tools", "nftables"]) {
      assert(
        full.includes(name),
        name,
      );
    }
    await ask(lab, "needy", ["sh", "-euc", OWN_PACKAGE]);
    const gone = await mobula(lab, before, "uninstall", "--purge");
    expectCode(gone, 0, "uninstall --purge");
    assertMatch(gone.stdout, /removed packages .*openvswitch-switch/);
    assertMatch(gone.stdout, /kept packages .*dnsmasq-base.*nftables.*: held, or others need them/);
    assertEquals(await installed(lab, "bare"), before.packages.get("bare"));
    const left = (await installed(lab, "needy")).filter((name) =>
      !before.packages.get("needy")!.includes(name)
    );
    for (const name of ["admins-own", "nftables", "dnsmasq-base"]) assert(left.includes(name), `${left}`);
    for (const name of ["openvswitch-switch", "wireguard-tools"]) assert(!left.includes(name), `${left}`);
    for (const { name } of HOSTS) {
      const now = await installed(lab, name);
      assertEquals(before.packages.get(name)!.filter((one) => !now.includes(one)), [], name);
      assertEquals((await lab.exec(name, ["sh", "-c", "ls -d /opt/mobula /run/mobula"])).stdout, "", name);
    }
  },
);
