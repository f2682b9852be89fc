/**
 * Boots with something broken on the host: SSH answers at the external address all the same, the cause is named, what does not need it
 * works, and once it is mended the host is as it was. Breaks files and programs on the lab's hosts, and reboots them.
 */
import { assertMatch } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import { executable } from "./executables.ts";
import { writeInventory } from "./inventory.ts";
import type { HostOptions, Lab } from "./lab.ts";
import { waitForAnswers } from "./probes.ts";
import { expectCode, mobula, type Proofs, type StageOptions } from "./proof.ts";
import { ask } from "./snapshot.ts";
import { waitFor } from "./wait.ts";

/** Something on a host that is missing, unreadable or wrong. */
export interface BootFault {
  readonly what: string;
  /** Shell scripts; the second takes back what the first has done. */
  readonly spoil: string;
  readonly mend: string;
  /** What mobula's units say in the journal. */
  readonly said: RegExp;
  /** What works in spite of it: the intrawire to the other host. */
  readonly intrawire?: true;
  /** Not even the path of SSH can be configured: the card is as before mobula, and the next boot takes it again. */
  readonly givenBack?: true;
}

/** Takes a program away from everybody, and gives it back. */
function missing(program: string, more: Pick<BootFault, "said" | "intrawire" | "givenBack">): BootFault {
  return {
    what: `${program} is missing`,
    spoil: `path=$(command -v ${program}); mv -T "$path" "$path.away"`,
    mend:
      `path=$(ls /usr/sbin/${program}.away /usr/bin/${program}.away 2>/dev/null | head -n 1); mv -T "$path" "\${path%.away}"`,
    ...more,
  };
}

/** Puts a text into a file, and the old one back. */
function broken(
  path: string,
  text: string,
  more: Pick<BootFault, "said" | "intrawire" | "givenBack">,
): BootFault {
  return {
    what: `${path} is ${text === "" ? "empty" : "broken"}`,
    spoil: `[ ! -e ${path} ] || cp -a ${path} ${path}.away; printf '%s' '${text}' >${path}`,
    mend: `rm -f ${path}; [ ! -e ${path}.away ] || mv ${path}.away ${path}`,
    ...more,
  };
}

/** A folder in place of a file: nobody can write the file, whoever he is. */
function folder(path: string, more: Pick<BootFault, "said" | "intrawire">): BootFault {
  return {
    what: `${path} cannot be written`,
    spoil: `mv ${path} ${path}.away; mkdir -p ${path}/full`,
    mend: `rm -r ${path}; mv ${path}.away ${path}`,
    ...more,
  };
}

const OPT = "/opt/mobula";

/** Those of every run: each kind of thing, and each kind of fault. */
export const BOOT_FAULTS: readonly BootFault[] = [
  folder("/etc/resolv.conf", { said: /resolv\.conf/, intrawire: true }),
  missing("wireguard-go", { said: /wireguard/ }),
  missing("nft", { said: /The network card is as it was before mobula/, givenBack: true }),
  missing("dnsmasq", { said: /dnsmasq/, intrawire: true }),
  broken(`${OPT}/keys.json`, "half a fi", { said: /Cannot read .*keys\.json/, intrawire: true }),
  broken(`${OPT}/current/config.json`, '{"schema', {
    said: /no generation and baseline below \/opt\/mobula that can be read/,
    givenBack: true,
  }),
  broken(`${OPT}/baseline.json`, "", { said: /Cannot read .*baseline\.json/, intrawire: true }),
  {
    what: "mobula itself is missing",
    spoil: `mv ${OPT}/bin/mobula ${OPT}/bin/away`,
    mend: `mv ${OPT}/bin/away ${OPT}/bin/mobula`,
    said: /mobula cannot run: \S+ gets the addresses that it had before mobula/,
    givenBack: true,
  },
  folder("/etc/systemd/system/mobula-dnsmasq.service", { said: /mobula-dnsmasq\.service/, intrawire: true }),
];

/** All others. */
export const MORE_BOOT_FAULTS: readonly BootFault[] = [
  missing("ovs-vswitchd", { said: /vswitchd/, intrawire: true }),
  folder("/etc/systemd/system/mobula-vswitchd.service", {
    said: /mobula-vswitchd\.service/,
    intrawire: true,
  }),
  missing("ovsdb-server", { said: /ovsdb/, intrawire: true }),
  missing("ovs-vsctl", { said: /ovs-vsctl|vswitchd/, intrawire: true }),
  missing("wg", { said: /wg/ }),
  missing("ovs-ofctl", { said: /flows|ovs-ofctl/, intrawire: true }),
  broken(`${OPT}/capabilities.json`, "[]", { said: /Cannot read .*capabilities\.json/, intrawire: true }),
  broken(`${OPT}/capabilities.json`, "", { said: /Cannot read .*capabilities\.json/, intrawire: true }),
  broken(`${OPT}/baseline.json`, "null", { said: /Cannot read .*baseline\.json/, intrawire: true }),
  broken(`${OPT}/keys.json`, "[1]", { said: /Cannot read the announced keys/, intrawire: true }),
  folder("/etc/systemd/system/mobula-wireguard.service", { said: /mobula-wireguard\.service/ }),
  folder(`${OPT}/bin/load-flows`, { said: /load-flows/, intrawire: true }),
  folder(`${OPT}/etc/dnsmasq.conf`, { said: /dnsmasq\.conf/, intrawire: true }),
  folder(`${OPT}/bin/run-paths`, { said: /run-paths/, intrawire: true }),
  // What wants to be in the kernel that this one does not have.
  broken(`${OPT}/capabilities.json`, '{"wireguard":"kernel","datapath":"system"}', {
    said:
      /the kernel is not the one of the last push: WireGuard runs in userspace, Open vSwitch runs in userspace/,
    intrawire: true,
  }),
  folder("/etc/systemd/system/mobula.service", { said: /mobula\.service/, intrawire: true }),
  {
    what: "mobula is cut off in the middle",
    spoil:
      `cp -a ${OPT}/bin/mobula ${OPT}/bin/away; truncate -s 1000000 ${OPT}/bin/mobula; rm -rf /var/cache/mobula`,
    mend: `mv ${OPT}/bin/away ${OPT}/bin/mobula; rm -rf /var/cache/mobula`,
    said: /mobula cannot run: \S+ gets the addresses that it had before mobula/,
    givenBack: true,
  },
];

const HOSTS: readonly HostOptions[] = [
  { name: "alpha", address: "198.51.100.2", suite: "trixie" },
  { name: "beta", address: "198.51.100.3", suite: "bookworm" },
];

/** What the push left. */
interface Pushed {
  readonly program: string;
}

/** The stage of such boots, under a name of its own. */
export function bootStage(name: string): StageOptions<Pushed> {
  return {
    name,
    hosts: HOSTS,
    prepare: async (lab) => {
      const program = await executable("compiled");
      await writeInventory(lab);
      expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
      return { program };
    },
  };
}

/** Declares one boot for each fault, on the hosts in turn. */
export function declareBoots({ proof }: Proofs<Pushed>, faults: readonly BootFault[]): void {
  for (const [index, fault] of faults.entries()) {
    proof(
      `boot, ${fault.what}: SSH answers, the cause is named, and nothing is left of it`,
      (lab, pushed) => {
        return boot(lab, pushed, HOSTS[index % HOSTS.length]!.name, fault);
      },
    );
  }
}

async function boot(lab: Lab, { program }: Pushed, host: string, fault: BootFault): Promise<void> {
  await ask(lab, host, ["sh", "-euc", fault.spoil]);
  try {
    // Ends when SSH greets at the external address.
    await lab.reboot(host);
    await waitFor(`a login on ${host}`, async () => (await lab.ssh(host, "uname -n")).stdout.trim() === host);
    const journal = ["journalctl", "-b", "--no-pager", "-q", "-o", "cat", "-u", "mobula*"];
    let said = "";
    await waitFor(
      `${host} to name the cause`,
      async () => fault.said.test(said = await ask(lab, host, journal)),
      {
        deadlineMs: 60_000,
      },
    ).catch(() => assertMatch(said, fault.said));
    if (fault.intrawire) {
      const other = HOSTS.find(({ name }) => name !== host)!.name;
      const { intrawire } = hostAddresses(lab.host(other).id);
      await waitForAnswers(`the intrawire of ${other}`, () => lab.network(host), [intrawire], 60_000);
    }
  } finally {
    await ask(lab, host, ["sh", "-euc", fault.mend]);
  }
  if (fault.givenBack) await lab.reboot(host);
  else await ask(lab, host, ["/opt/mobula/bin/mobula", "up"]);
  await waitFor("the plan to be empty", async () => {
    return (await mobula(lab, { executable: program }, "plan")).code === 0;
  }, { deadlineMs: 60_000, intervalMs: 500 });
}
